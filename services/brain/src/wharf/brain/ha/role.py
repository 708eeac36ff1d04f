"""What a node is in the cluster, and what follows when something happens. Pure.

    FOLLOWING ──lease won──▶ PROMOTING ──engine promoted, predecessor's lease over──▶ LEADING
        ▲                        │ lease lost, engine fails                              │
        │◀───────────────────────┘                                                       │ asked to hand over, stopping
        │◀──lease lost, fenced, engine stuck─────────────────────────────────────────────┤
        │◀──handed over────────────────────────────────────────────────────── RESIGNING ◀┘

Invariant: a node acknowledges only while LEADING, and only while its lease is valid at that very moment.
"""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    FOLLOWING = "follower"
    PROMOTING = "candidate"
    LEADING = "leader"
    RESIGNING = "resigning"


class Happened(Enum):
    LEASE_WON = "the lease is ours"
    READY = "the engine is promoted and nobody else believes any more"
    LEASE_LOST = "the lease is another's, or gone"
    ENGINE_FAILED = "the engine could not be promoted"
    FENCED = "another epoch writes"
    STUCK = "the engine has not answered for too long"
    ASKED_TO_GO = "leadership is to be handed over"
    DRAINED = "everything accepted is answered"


class Do(Enum):
    PROMOTE = "promote the engine, then wait for the predecessor's lease"
    LEAD = "write from now on"
    DRAIN = "finish what was accepted, accept no more"
    DROP = "write no more, refuse what is not answered"
    RELEASE = "give the lease back, marked as handed over"
    ABANDON = "give the lease back without a promise"
    FOLLOW = "keep up with whoever leads"


NEXT: dict[tuple[Role, Happened], tuple[Role, tuple[Do, ...]]] = {
    (Role.FOLLOWING, Happened.LEASE_WON): (Role.PROMOTING, (Do.PROMOTE,)),
    (Role.FOLLOWING, Happened.ASKED_TO_GO): (Role.FOLLOWING, ()),
    (Role.FOLLOWING, Happened.LEASE_LOST): (Role.FOLLOWING, ()),
    (Role.FOLLOWING, Happened.FENCED): (Role.FOLLOWING, ()),
    (Role.PROMOTING, Happened.READY): (Role.LEADING, (Do.LEAD,)),
    (Role.PROMOTING, Happened.LEASE_LOST): (Role.FOLLOWING, (Do.FOLLOW,)),
    (Role.PROMOTING, Happened.ENGINE_FAILED): (Role.FOLLOWING, (Do.ABANDON, Do.FOLLOW)),
    (Role.PROMOTING, Happened.ASKED_TO_GO): (Role.FOLLOWING, (Do.ABANDON, Do.FOLLOW)),
    (Role.LEADING, Happened.LEASE_LOST): (Role.FOLLOWING, (Do.DROP, Do.FOLLOW)),
    (Role.LEADING, Happened.FENCED): (Role.FOLLOWING, (Do.DROP, Do.ABANDON, Do.FOLLOW)),
    (Role.LEADING, Happened.STUCK): (Role.FOLLOWING, (Do.DROP, Do.RELEASE, Do.FOLLOW)),
    (Role.LEADING, Happened.ASKED_TO_GO): (Role.RESIGNING, (Do.DRAIN,)),
    (Role.RESIGNING, Happened.ASKED_TO_GO): (Role.RESIGNING, ()),
    (Role.RESIGNING, Happened.DRAINED): (Role.FOLLOWING, (Do.DROP, Do.RELEASE, Do.FOLLOW)),
    (Role.RESIGNING, Happened.LEASE_LOST): (Role.FOLLOWING, (Do.DROP, Do.FOLLOW)),
    (Role.RESIGNING, Happened.FENCED): (Role.FOLLOWING, (Do.DROP, Do.ABANDON, Do.FOLLOW)),
    (Role.RESIGNING, Happened.STUCK): (Role.FOLLOWING, (Do.DROP, Do.RELEASE, Do.FOLLOW)),
}
"""Pairs that are absent cannot happen; meeting one is a defect (KeyError)."""


def step(role: Role, happened: Happened) -> tuple[Role, tuple[Do, ...]]:
    """What the node is now, and what it must do, in order."""
    return NEXT[role, happened]
