"""`wharf brain` with one defect built in: `defective.py DEFECT FLAGS…`. For the proof that this suite can fail.

Each defect takes one argument out of the consistency argument of docs/brain.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from wharf.brain.engine import pg_follow
from wharf.brain.engine.base import Batch, Fenced
from wharf.brain.engine.delta import Delta, Position
from wharf.brain.engine.pg_read import Fence
from wharf.brain.engine.postgres import PostgresEngine
from wharf.brain.ha.node import HaNode
from wharf.cli.main import main
from wharf.common.lease import Tenure


def followers_read_without_asking() -> None:
    """A follower answers linearizable reads with what it has."""
    HaNode.read = lambda self, done: done(True)  # type: ignore[method-assign]


def leases_never_end() -> None:
    """A leader believes until it is told otherwise."""
    Tenure.holds = lambda self, now: True  # type: ignore[method-assign]
    Tenure.may_lead = lambda self, now: self.confirmed  # type: ignore[method-assign]


def successors_do_not_wait() -> None:
    """Who wins the lease leads at once, whatever the predecessor believes."""
    promoted = Tenure.promoted

    def at_once(self: Tenure, epoch: int, previous_ttl_ms: int, now: float) -> Tenure:
        return replace(promoted(self, epoch, 0, now), from_=now)

    Tenure.promoted = at_once  # type: ignore[method-assign]


def gaps_are_passed_over() -> None:
    """A follower applies whatever is newer than what it has."""

    def newer(position: Position, delta: Delta) -> bool:
        return delta.seq > position.seq and delta.epoch >= position.epoch

    pg_follow.follows = newer  # type: ignore[attr-defined]


def replaced_leaders_do_not_read_the_log() -> None:
    """A leader that was replaced takes a batch of unknown outcome for one that did not land."""

    async def unread(self: PostgresEngine, fence: Fence, batch: Batch, seq: int) -> None:
        raise Fenced(f"the authority is at {fence.position}")

    PostgresEngine._look_behind = unread  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    defect.__name__: defect
    for defect in (
        followers_read_without_asking,
        leases_never_end,
        successors_do_not_wait,
        gaps_are_passed_over,
        replaced_leaders_do_not_read_the_log,
    )
}

if __name__ == "__main__":
    DEFECTS[sys.argv[1]]()
    sys.exit(main(["brain", *sys.argv[2:]]))
