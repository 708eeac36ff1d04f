"""Synced watchers by what they want, and the way from a key to them. Pure.

Watchers with the same interest form a group and share the bytes of their events. Single keys are found in a dict;
ranges cut the key space into segments at their bounds, found by bisection. A segment learns its groups when the first
event falls into it.

Invariant: after any sequence of `add` and `remove`, `match(key)` gives exactly the groups whose range holds `key`.
"""

from __future__ import annotations

from bisect import bisect_right

from wharf.brain.watch.watcher import Interest, Watcher


class Group:
    """Watchers of one interest, and the events gathered for them since the last delivery."""

    __slots__ = ("framed", "interest", "watchers")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.watchers: dict[Watcher, None] = {}
        self.framed: list[bytes] = []


class Groups:
    def __init__(self) -> None:
        self._groups: dict[Interest, Group] = {}
        self._single: dict[bytes, tuple[Group, ...]] = {}
        self._edges: list[bytes] = []
        self._segments: list[tuple[Group, ...] | None] = []
        self._stale = False

    def __len__(self) -> int:
        return sum(len(group.watchers) for group in self._groups.values())

    def all(self) -> list[Watcher]:
        return [watcher for group in self._groups.values() for watcher in group.watchers]

    def add(self, watcher: Watcher) -> None:
        interest = watcher.interest
        group = self._groups.get(interest)
        if group is None:
            group = self._groups[interest] = Group(interest)
            if interest.single:
                self._single[interest.start] = (*self._single.get(interest.start, ()), group)
            else:
                self._stale = True
        group.watchers[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        interest = watcher.interest
        group = self._groups.get(interest)
        if group is None or watcher not in group.watchers:
            return
        del group.watchers[watcher]
        if group.watchers:
            return
        del self._groups[interest]
        if not interest.single:
            self._stale = True
            return
        left = tuple(other for other in self._single[interest.start] if other is not group)
        if left:
            self._single[interest.start] = left
        else:
            del self._single[interest.start]

    def match(self, key: bytes) -> tuple[Group, ...]:
        if self._stale:
            self._cut()
        at = bisect_right(self._edges, key) - 1
        if at < 0:
            return self._single.get(key, ())
        found = self._segments[at]
        if found is None:
            found = self._segments[at] = self._covering(self._edges[at])
        single = self._single.get(key)
        return found if single is None else found + single

    def _cut(self) -> None:
        edges: set[bytes] = set()
        for interest in self._groups:
            if not interest.single:
                edges.add(interest.start)
                if interest.end is not None:
                    edges.add(interest.end)
        self._edges = sorted(edges)
        self._segments = [None] * len(edges)
        self._stale = False

    def _covering(self, key: bytes) -> tuple[Group, ...]:
        return tuple(
            group
            for interest, group in self._groups.items()
            if not interest.single and interest.start <= key and (interest.end is None or key < interest.end)
        )
