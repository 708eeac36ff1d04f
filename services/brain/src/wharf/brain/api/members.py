"""Who belongs to the cluster, as etcd's Cluster and Maintenance services tell it. Pure.

Members share an engine and come and go by configuration: whoever leads writes down who has joined it, in META, so that
every node tells the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Final, Protocol

META_MEMBERS: Final = b"members"


@dataclass(frozen=True, slots=True)
class Member:
    member_id: int
    name: str
    client_urls: tuple[str, ...] = ()
    peer_urls: tuple[str, ...] = ()


class Cluster(Protocol):
    """What a node knows of the cluster it belongs to."""

    @property
    def leader_id(self) -> int:
        """Member that leads, 0: nobody, as far as this node knows."""

    @property
    def term(self) -> int:
        """Grows with every leader."""

    @property
    def leader_changes(self) -> int:
        """Leaders seen since this node started."""

    def members(self) -> Sequence[Member]: ...
    def is_connected(self, member_id: int) -> bool:
        """Whether a member is there now; only a leader knows of others."""

    def remove(self, member_id: int) -> Sequence[Member]:
        """The members without this one, for the leader to write down."""

    async def move_leader(self, member_id: int) -> None:
        """Hand leadership to a member; raises BrainError."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A cluster of one, which leads itself."""

    member: Member
    term: int
    leader_changes: int = 0

    @property
    def leader_id(self) -> int:
        return self.member.member_id

    def members(self) -> Sequence[Member]:
        return (self.member,)

    def is_connected(self, member_id: int) -> bool:
        return member_id == self.member.member_id

    def remove(self, member_id: int) -> Sequence[Member]:
        return self.members()

    async def move_leader(self, member_id: int) -> None:
        """To itself: done."""


def member_id_of(cluster_id: int, name: str) -> int:
    """The same node is the same member after a restart: its id comes from its name. Never 0."""
    digest = sha256(cluster_id.to_bytes(8, "big") + name.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1 | 1


def encode_members(members: Iterable[Member]) -> bytes:
    """In order of their ids, so that equal sets are equal bytes."""
    listed = sorted(members, key=lambda member: member.member_id)
    return json.dumps([asdict(member) for member in listed], separators=(",", ":")).encode()


def parse_members(stored: bytes | None) -> tuple[Member, ...]:
    """ValueError when these are no members."""
    if stored is None:
        return ()
    try:
        return tuple(
            Member(int(each["member_id"]), str(each["name"]), tuple(each["client_urls"]), tuple(each["peer_urls"]))
            for each in json.loads(stored)
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a list of members: {error}") from error
