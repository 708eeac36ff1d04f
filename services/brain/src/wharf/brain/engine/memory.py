"""The model engine: four sorted tables in memory, nothing durable.

It says in plain Python what an engine must do; every other engine is compared with it. Commits are answered through
the loop, like a real engine's, so that code built on it meets the same order of events.
"""

from __future__ import annotations

import asyncio
import struct
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from pathlib import Path

from wharf.brain.engine.base import (
    FIRST_REVISION,
    FORMAT,
    META_EPOCH,
    META_FORMAT,
    META_REVISION,
    Batch,
    EngineError,
    Fenced,
    Promotion,
    Resolution,
    Table,
    resolved,
)
from wharf.common.private_files import create_private

RECORD = struct.Struct(">BII")  # of a backup: table, length of the key, length of the value


class SortedTable:
    """A dict that knows its keys in order."""

    __slots__ = ("keys", "values")

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.values = values or {}
        self.keys = sorted(self.values)

    def copy(self) -> SortedTable:
        twin = SortedTable()
        twin.values, twin.keys = self.values.copy(), self.keys.copy()
        return twin

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        if self.values.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def between(self, start: bytes, end: bytes | None) -> range:
        low = bisect_left(self.keys, start)
        high = len(self.keys) if end is None else bisect_left(self.keys, end)
        return range(low, max(low, high))


def framed_length(length: int) -> int:
    """Bytes a value of `length` takes as a protobuf field with a one-byte tag."""
    return 1 + max(1, (length.bit_length() + 6) // 7) + length


def frame_value(tag: int, value: bytes) -> bytes:
    """`value` as a protobuf field: tag byte, varint length, bytes."""
    head = bytearray((tag,))
    length = len(value)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + value


class MemorySnapshot:
    """One committed state; the engine copies before it writes while snapshots are open."""

    def __init__(self, tables: list[SortedTable]) -> None:
        self._tables = tables
        self._open = True
        self.revision = int.from_bytes(tables[Table.META].values[META_REVISION], "big")

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._table(table).values.get(key)

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        held = self._table(table)
        span = held.between(start, end)
        taken = reversed(span) if reverse else iter(span)
        for count, at in enumerate(taken):
            if limit and count >= limit:
                return
            key = held.keys[at]
            yield key, held.values[key]

    def values(
        self, table: int, start: bytes, end: bytes | None, limit: int, max_bytes: int, tag: int
    ) -> tuple[bytes, int, bytes | None]:
        parts: list[bytes] = []
        size = 0
        for key, value in self.scan(table, start, end):
            if (limit and len(parts) >= limit) or (parts and size >= max_bytes):
                return b"".join(parts), len(parts), key
            parts.append(frame_value(tag, value))
            size += len(parts[-1])
        return b"".join(parts), len(parts), None

    def measure(self, table: int, start: bytes, end: bytes | None, limit: int) -> tuple[int, int]:
        size = count = 0
        for _, value in self.scan(table, start, end, limit):
            size += framed_length(len(value))
            count += 1
        return size, count

    def close(self) -> None:
        self._open = False

    def _table(self, table: int) -> SortedTable:
        if not self._open:
            raise ValueError("snapshot is closed")
        return self._tables[table]


class MemoryEngine:
    """The contract of `base.Engine`, in memory."""

    def __init__(self, tables: list[SortedTable] | None = None) -> None:
        self._tables = tables or [SortedTable() for _ in Table]
        self._shared = False  # an open snapshot may hold self._tables
        self._closed = False
        meta = self._tables[Table.META]
        if META_FORMAT not in meta.values:
            meta.put(META_FORMAT, FORMAT)
            meta.put(META_REVISION, FIRST_REVISION.to_bytes(8, "big"))
            meta.put(META_EPOCH, bytes(8))

    @classmethod
    def load(cls, path: str) -> MemoryEngine:
        """What `backup` wrote."""
        tables: list[dict[bytes, bytes]] = [{} for _ in Table]
        data, at = Path(path).read_bytes(), 0
        while at < len(data):
            table, key_length, length = RECORD.unpack_from(data, at)
            at += RECORD.size
            tables[table][data[at : at + key_length]] = data[at + key_length : at + key_length + length]
            at += key_length + length
        return cls([SortedTable(values) for values in tables])

    def snapshot(self) -> MemorySnapshot:
        self._check_open()
        self._shared = True
        return MemorySnapshot(self._tables)

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.commit(batch)
        except EngineError as error:
            loop.call_soon(done, error)
        else:
            loop.call_soon(done, None)

    def commit(self, batch: Batch) -> None:
        self._check_open()
        held_epoch, held = self._number(META_EPOCH), self._number(META_REVISION)
        if (held_epoch, held) != (batch.epoch, batch.expected_revision):
            raise Fenced(
                f"the batch expects epoch {batch.epoch} and revision {batch.expected_revision}; "
                f"the store holds {held_epoch} and {held}"
            )
        tables = self._writable()
        for table, key, value in batch.writes:
            if value is None:
                tables[table].delete(key)
            else:
                tables[table].put(key, value)
        tables[Table.META].put(META_REVISION, batch.revision.to_bytes(8, "big"))

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        done(resolved(self, batch))

    async def promote(self, lease_ms: int = 0) -> Promotion:
        self._check_open()
        epoch = self._number(META_EPOCH) + 1
        self._writable()[Table.META].put(META_EPOCH, epoch.to_bytes(8, "big"))
        return Promotion(epoch)

    def size(self) -> int:
        return self.size_in_use()

    def size_in_use(self) -> int:
        return sum(len(key) + len(value) for table in self._tables for key, value in table.values.items())

    def relax(self) -> None:
        """All there is, is needed."""

    def defragment(self) -> None:
        """Nothing is ever fragmented here."""

    def backup(self, path: str) -> None:
        with create_private(path) as out:
            for number, table in enumerate(self._tables):
                for key, value in table.values.items():
                    out.write(RECORD.pack(number, len(key), len(value)) + key + value)

    def close(self) -> None:
        self._closed = True

    def _writable(self) -> list[SortedTable]:
        if self._shared:
            self._tables = [table.copy() for table in self._tables]
            self._shared = False
        return self._tables

    def _number(self, key: bytes) -> int:
        return int.from_bytes(self._tables[Table.META].values[key], "big")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("engine is closed")
