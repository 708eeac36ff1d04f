"""Linearizable reads on a node that does not lead: one question to the leader answers for many reads. Pure.

    read ──▶ gathering ──ask──▶ asked ──answer R──▶ due at R ──node shows R──▶ done(True)

A read joins the question that is asked next, never the one under way: what the leader says there may be from before the
read began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

Done = Callable[[bool], None]
"""True: read now. False: nobody could say how far the leader is."""


class Point(NamedTuple):
    """How far a node is; no number ever falls."""

    revision: int
    compact_revision: int = -1
    auth_version: int = 0  # of users and roles; they change without a revision

    def reaches(self, other: Point) -> bool:
        return (
            self.revision >= other.revision
            and self.compact_revision >= other.compact_revision
            and self.auth_version >= other.auth_version
        )


NOWHERE = Point(0)


class ReadGate:
    def __init__(self, ask: Callable[[int], None], want: Callable[[Point], None]) -> None:
        """`ask(token)` sends a question; `want(point)` says that this is waited for."""
        self._ask, self._want = ask, want
        self._gathering: list[Done] = []
        self._asked: list[Done] | None = None  # None: no question is under way
        self._token = 0
        self._due: deque[tuple[Point, list[Done]]] = deque()  # reads, in the order they are due
        self._shown = NOWHERE

    def __len__(self) -> int:
        """Reads that wait."""
        return len(self._gathering) + len(self._asked or ()) + sum(len(reads) for _, reads in self._due)

    @property
    def token(self) -> int:
        """Of the question under way, 0: none."""
        return 0 if self._asked is None else self._token

    @property
    def due(self) -> Point | None:
        """What is waited for longest."""
        return self._due[0][0] if self._due else None

    def read(self, done: Done) -> None:
        self._gathering.append(done)
        if self._asked is None:
            self._next()

    def answered(self, token: int, point: Point | None) -> None:
        """The leader's answer; None: it cannot prove that it leads. Answers to older questions are passed over."""
        if self._asked is None or token != self._token:
            return
        reads, self._asked = self._asked, None
        if point is None:
            _tell(reads, False)
        elif self._shown.reaches(point):
            _tell(reads, True)
        else:
            self._due.append((point, reads))
            self._want(point)
        if self._gathering and self._asked is None:
            self._next()

    def shown(self, point: Point) -> None:
        """The node shows `point`."""
        self._shown = point
        while self._due and point.reaches(self._due[0][0]):
            _tell(self._due.popleft()[1], True)

    def lost(self) -> None:
        """The leader is gone: questions will not be answered. Reads that only wait to be shown go on waiting."""
        reads, self._asked = (self._asked or []) + self._gathering, None
        self._gathering = []
        _tell(reads, False)

    def give_up(self) -> None:
        """Nothing that waits will be told in time."""
        due, self._due = self._due, deque()
        for _, reads in due:
            _tell(reads, False)
        self.lost()

    def _next(self) -> None:
        self._token += 1
        self._asked, self._gathering = self._gathering, []
        self._ask(self._token)


def _tell(reads: list[Done], outcome: bool) -> None:
    for done in reads:
        done(outcome)
