"""The roll of a cluster's members, as the leader keeps it and everybody reads it.

Whoever joins a leader is written down, in META, so that every node tells the same; who has been away for long is struck
off, and so is who has been away longest when there is no room for another. Invariants: what is written is the last list
written by this leader with one change, however many changes are on their way; it has at most `MOST_MEMBERS` of bounded
size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from wharf.brain.api.members import META_MEMBERS, Member, encode_members, member_id_of, parse_members
from wharf.brain.errors import BrainError
from wharf.brain.ha.limits import MOST_MEMBERS, MOST_NAME, MOST_URL, MOST_URLS
from wharf.common.pb.control import control_pb2 as control

log = logging.getLogger(__name__)

FORGET: Final = 300.0  # seconds a member that left without a word stays listed

Write = Callable[[list[tuple[bytes, bytes | None]], Callable[[BrainError | None], None]], None]


class Roll:
    """`write` puts META records into the store of a leader."""

    def __init__(self, myself: Member, write: Write) -> None:
        self._myself = myself
        self._write = write
        self._shown: tuple[Member, ...] = ()
        self._listed: tuple[Member, ...] = ()  # as last written here, shown or not yet
        self._gone: dict[int, float] = {}  # member that left → when

    def members(self) -> tuple[Member, ...]:
        """As this node shows them; itself always."""
        known = {member.member_id: member for member in self._shown}
        known.setdefault(self._myself.member_id, self._myself)
        return tuple(known.values())

    def read(self, stored: bytes | None) -> None:
        """The list has changed in what is shown."""
        try:
            self._shown = parse_members(stored)
        except ValueError as error:
            log.warning("the list of members cannot be read: %s", error)

    def lead(self, now: float) -> None:
        """This node keeps the roll from now on: whoever does not come soon is forgotten."""
        self._listed = self._shown
        self._gone = {each.member_id: now for each in self._shown if each != self._myself}
        self.joined(self._myself)

    def joined(self, member: Member) -> bool:
        """Write a member down; False: the list is full of members that are there."""
        self._gone.pop(member.member_id, None)
        listed = {each.member_id: each for each in self._listed}
        if listed.get(member.member_id) != member:
            if member.member_id not in listed and len(listed) >= MOST_MEMBERS:
                away = next((each for each in self._gone if each in listed), None)
                if away is None:
                    return False
                del listed[away], self._gone[away]
            listed[member.member_id] = member
            self._store(listed.values())
        return True

    def left(self, member_id: int, now: float) -> None:
        if any(each.member_id == member_id for each in self._listed):
            self._gone.pop(member_id, None)  # so that they stand in the order they left in
            self._gone[member_id] = now

    def without(self, member_id: int) -> tuple[Member, ...]:
        """The list without this member, for whoever writes it."""
        self._gone.pop(member_id, None)
        self._listed = tuple(member for member in self._listed if member.member_id != member_id)
        return self._listed

    def forget(self, now: float, is_connected: Callable[[int], bool]) -> None:
        """Strike off who has been away for long."""
        for member_id in [each for each, left in self._gone.items() if now - left > FORGET]:
            if is_connected(member_id):
                del self._gone[member_id]
            else:
                self._store(self.without(member_id))

    def _store(self, members: Iterable[Member]) -> None:
        self._listed = tuple(members)
        self._write([(META_MEMBERS, encode_members(self._listed))], _nothing)


def refusal(hello: control.Hello, cluster_id: int, member_id: int, others: Iterable[control.Hello]) -> str:
    """Why who says `hello` may not join this member of this cluster, where `others` are; "" if it may."""
    urls = (*hello.client_urls, *hello.peer_urls)
    if len(hello.name) > MOST_NAME or len(urls) > MOST_URLS or any(len(url) > MOST_URL for url in urls):
        return f"a name has at most {MOST_NAME} characters, and a node {MOST_URLS} URLs of {MOST_URL}"
    if hello.cluster_id != cluster_id:
        return f"this is cluster {cluster_id:x}, not {hello.cluster_id:x}: is --engine the same on all nodes?"
    if hello.member_id != member_id_of(cluster_id, hello.name):
        return f"{hello.member_id:x} is not the member called {hello.name!r}"
    if hello.member_id == member_id or any(
        other.member_id == hello.member_id and other.instance != hello.instance for other in others
    ):
        return f"another node is called {hello.name!r} already: give each node a --name of its own"
    return ""


def _nothing(_: BrainError | None) -> None: ...
