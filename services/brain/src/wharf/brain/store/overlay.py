"""Present state as the next transaction must see it: published state below, batches not yet durable above.

A view is `get` and `scan` over full keys, in key order, values being stored KeyValues. `Layer` puts changes over a
view; `rewound` takes the newest changes away again, for a read pinned at a revision that is not published yet. Pure.

Invariant: a layer never changes what is below it, so dropping the layers of a failed batch is all it takes to forget
it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from wharf.brain.store.keys import range_bounds

Changes = Mapping[bytes, bytes | None]
"""Full key → its KeyValue after the change, None when it is gone."""


class View(Protocol):
    """One state of all keys."""

    def get(self, key: bytes) -> bytes | None:
        """The key's KeyValue, None when there is none."""

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(key, KeyValue) with start <= key < end, in key order; end None: no upper bound."""


class Published:
    """What is below all layers."""

    __slots__ = ("get", "scan")

    def __init__(
        self,
        get: Callable[[bytes], bytes | None],
        scan: Callable[[bytes, bytes | None], Iterator[tuple[bytes, bytes]]],
    ) -> None:
        self.get = get
        self.scan = scan


class Layer:
    """`changes` over `base`."""

    __slots__ = ("base", "changes")

    def __init__(self, base: View, changes: Changes) -> None:
        self.base = base
        self.changes = changes

    def get(self, key: bytes) -> bytes | None:
        if key in self.changes:
            return self.changes[key]
        return self.base.get(key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        mine = sorted(key for key in self.changes if start <= key and (end is None or key < end))
        if not mine:
            return self.base.scan(start, end)
        return self._merge(mine, self.base.scan(start, end))

    def _merge(self, mine: list[bytes], below: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        at = 0
        for key, kv in below:
            upto = bisect_left(mine, key, at)
            yield from self._present(mine[at:upto])
            at = upto
            if at == len(mine) or mine[at] != key:
                yield key, kv
        yield from self._present(mine[at:])

    def _present(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for key in keys:
            kv = self.changes[key]
            if kv is not None:
                yield key, kv


def stacked(base: View, layers: Iterable[Changes]) -> View:
    """`layers` over `base`, the first of them lowest; empty ones cost nothing."""
    view = base
    for changes in layers:
        if changes:
            view = Layer(view, changes)
    return view


Undo = Sequence[tuple[int, bytes, bytes | None]]
"""(revision, key, KeyValue before that revision), in order."""


def rewound(view: View, undo: Undo, revision: int) -> View:
    """`view` as it was at `revision`."""
    before: dict[bytes, bytes | None] = {}
    for made_at, key, kv in reversed(undo):
        if made_at <= revision:
            break
        before[key] = kv
    return Layer(view, before) if before else view


def select(view: View, key: bytes, range_end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, KeyValue) of an etcd range."""
    if not range_end:
        kv = view.get(key)
        return iter(()) if kv is None else iter(((key, kv),))
    start, end = range_bounds(key, range_end)
    if end is not None and end <= start:
        return iter(())
    return view.scan(start, end)
