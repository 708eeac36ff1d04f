"""Births and deaths of keys by revision: exact counts of a range as it was, without walking the range.

A key counts at revision R if it is live now and was not born since, or was live then and has died since. `Churn`
keeps the newest births and deaths in memory; a revision that pages are being read at gets a tracker, two ordered sets
of what differs between then and now, brought forward when it is asked again. Bounded, in memory and in what one
question may cost: `most` records, `TRACKERS` revisions. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from wharf.brain.store._index import Index

TRACKERS = 64  # revisions counted at; the one asked longest ago goes first

Change = tuple[int, bytes, bool]
"""(revision, key, whether it was born); False: it died."""


@dataclass(slots=True)
class Tracker:
    """How the live keys now differ from those at a revision."""

    seen: int  # changes applied, counted since the beginning of time
    born: Index = field(default_factory=Index)  # live now, absent then
    died: Index = field(default_factory=Index)  # absent now, live then

    def apply(self, changes: Iterable[Change]) -> None:
        for _, key, born in changes:
            gone, come = (self.died, self.born) if born else (self.born, self.died)
            if not gone.discard(key):
                come.add(key)

    def gained(self, start: bytes, end: bytes | None) -> int:
        """Keys of the range now, less those of then."""
        return self.born.count(start, end) - self.died.count(start, end)


class Churn:
    """The newest changes up to now, complete for revisions above `floor`."""

    def __init__(self, floor: int, most: int = 20_000) -> None:
        self.floor = floor
        self._most = most
        self._changes: list[Change] = []
        self._dropped = 0  # changes forgotten so far
        self._trackers: OrderedDict[int, Tracker] = OrderedDict()

    def record(self, changes: Iterable[Change]) -> None:
        """Changes of newer revisions, in order."""
        for change in changes:
            self._changes.append(change)
            if len(self._changes) > 2 * self._most:
                self.floor = self._changes[self._most - 1][0]
                del self._changes[: self._most]
                self._dropped += self._most

    def pin(self, revision: int) -> None:
        """Pages at `revision`, which is now, may follow: begin to track it."""
        if revision not in self._trackers:
            self._keep(revision, Tracker(self._dropped + len(self._changes)))

    def gained(self, revision: int, start: bytes, end: bytes | None) -> int | None:
        """Keys in the range now, less those at `revision`; None when too much has changed since."""
        tracker = self._trackers.get(revision)
        if tracker is None or tracker.seen < self._dropped:
            if revision < self.floor:
                return None
            begin = bisect_right(self._changes, revision, key=lambda change: change[0])
            tracker = Tracker(self._dropped + begin)
        tracker.apply(self._changes[tracker.seen - self._dropped :])
        self._keep(revision, tracker)
        return tracker.gained(start, end)

    def _keep(self, revision: int, tracker: Tracker) -> None:
        tracker.seen = self._dropped + len(self._changes)
        self._trackers[revision] = tracker
        self._trackers.move_to_end(revision)
        if len(self._trackers) > TRACKERS:
            self._trackers.popitem(last=False)
