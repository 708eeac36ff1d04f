"""Published state: the loop's snapshot, the index of live keys and what reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from wharf.brain.engine.base import Engine, EngineError, Table, Write
from wharf.brain.errors import BrainError, Compacted, FutureRevision
from wharf.brain.store._codec import parse_kv
from wharf.brain.store._index import Index
from wharf.brain.store.keys import skey
from wharf.brain.store.overlay import select
from wharf.brain.store.shapes import RangeAnswer, RangeOp
from wharf.brain.store.txn import answer_range


class Present:
    def __init__(self, engine: Engine, index: Index) -> None:
        self._engine, self._index = engine, index
        self.snapshot = engine.snapshot()

    def get(self, key: bytes) -> bytes | None:
        return self.snapshot.get(Table.NOW, skey(key))

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for key in self._index.keys(start, end):
            kv = self.get(key)
            if kv is not None:
                yield key, kv

    def range(self, op: RangeOp, revision: int, compact_revision: int) -> RangeAnswer:
        if op.revision > revision:
            raise FutureRevision
        if 0 < op.revision < compact_revision:
            raise Compacted
        return answer_range(select(self, op.key, op.range_end), op, revision)

    def range_tail(self, answer: RangeAnswer) -> bytes:
        return b""

    def advance(self, births: Sequence[tuple[int, bytes, bool]]) -> None:
        self.snapshot.close()
        self.snapshot = self._engine.snapshot()
        for _, key, born in births:
            if born:
                self._index.add(key)
            else:
                self._index.discard(key)

    def start_compaction(
        self,
        submit: Callable[[Sequence[Write], Callable[[EngineError | None], None]], None],
        loop: asyncio.AbstractEventLoop,
        compact_revision: int,
    ) -> None: ...

    async def stop_compaction(self) -> None: ...

    def compact(self, revision: int) -> None: ...

    def when_compacted(self, revision: int, done: Callable[[BrainError | None], None]) -> None:
        done(None)

    def close(self) -> None:
        self.snapshot.close()


def open_present(engine: Engine, attach: Callable[[bytes, int], None]) -> Present:
    """Load the index and the lease attachments."""
    index = Index()
    snapshot = engine.snapshot()
    try:
        found = []
        for _, stored in snapshot.scan(Table.NOW, b"", None):
            key, _, _, _, _, lease = parse_kv(stored)
            found.append(key)
            if lease:
                attach(key, lease)
    finally:
        snapshot.close()
    index.extend(sorted(found))
    return Present(engine, index)
