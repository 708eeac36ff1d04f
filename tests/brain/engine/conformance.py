"""What every engine owes the store, rule by rule: one suite, run on each of them.

A test module makes a class of it and gives it a fixture `bench`. Keys are those of the store's layout, for an engine
may know that LOG is ordered by revision and that HISTORY's keys end in one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from wharf.brain.engine.base import (
    Batch,
    Engine,
    EngineError,
    Fenced,
    LocalEngine,
    Resolution,
    Table,
    Write,
    epoch_number,
)
from wharf.brain.store.keys import hkey, log_key

NOW, LOG, HISTORY, META = Table.NOW, Table.LOG, Table.HISTORY, Table.META
PATIENCE = 60.0
Body = Callable[[Engine], Awaitable[None]]


class Bench(Protocol):
    """An engine of one kind after the other."""

    async def fresh(self) -> Engine:
        """One that holds nothing, ready for use."""

    def backed_up(self, path: Path) -> LocalEngine:
        """What `Engine.backup` wrote, as a store of its own."""


async def shut(engine: Engine) -> None:
    """Close it, whichever way it is closed."""
    aclose = getattr(engine, "aclose", None)
    if aclose is None:
        engine.close()
    else:
        await aclose()


def run(bench: Bench, body: Body) -> None:
    """`body` on a fresh engine, in a loop of its own."""

    async def main() -> None:
        engine = await bench.fresh()
        try:
            await asyncio.wait_for(body(engine), PATIENCE)
        finally:
            await shut(engine)

    asyncio.run(main())


async def outcomes(engine: Engine, batches: Sequence[Batch]) -> list[EngineError | None]:
    """Submit every batch before the first is done; what became of them, in the order it was reported."""
    reported: list[EngineError | None] = []
    everything = asyncio.Event()

    def done(error: EngineError | None) -> None:
        reported.append(error)
        if len(reported) == len(batches):
            everything.set()

    for batch in batches:
        engine.submit(batch, done)
    await everything.wait()
    return reported


async def land(engine: Engine, batch: Batch) -> None:
    """One batch; raises what is reported."""
    (error,) = await outcomes(engine, [batch])
    if error is not None:
        raise error


async def resolved(engine: Engine, batch: Batch) -> Resolution:
    """What became of a batch."""
    outcome: asyncio.Future[Resolution] = asyncio.get_running_loop().create_future()
    engine.resolve(batch, outcome.set_result)
    return await outcome


def stands_at(engine: Engine) -> tuple[int, int]:
    """Epoch and revision that a writer must name."""
    snapshot = engine.snapshot()
    try:
        position = getattr(engine, "position", None)
        if position is not None:
            return position().epoch, snapshot.revision
        return int.from_bytes(snapshot.get(META, b"epoch") or b"", "big"), snapshot.revision
    finally:
        snapshot.close()


async def write(engine: Engine, *writes: Write, revisions: int = 1) -> None:
    """Land writes under whatever epoch and revision the engine holds."""
    epoch, revision = stands_at(engine)
    await land(engine, Batch(epoch, revision, revision + revisions, writes))


def pairs(engine: Engine, table: int = NOW) -> list[tuple[bytes, bytes]]:
    """A table's content."""
    snapshot = engine.snapshot()
    try:
        return list(snapshot.scan(table, b"", None))
    finally:
        snapshot.close()


def scanned(
    engine: Engine, start: bytes = b"", end: bytes | None = None, limit: int = 0, reverse: bool = False
) -> list[bytes]:
    """Keys of NOW."""
    snapshot = engine.snapshot()
    try:
        return [key for key, _ in snapshot.scan(NOW, start, end, limit, reverse)]
    finally:
        snapshot.close()


def get(engine: Engine, table: int, key: bytes) -> bytes | None:
    snapshot = engine.snapshot()
    try:
        return snapshot.get(table, key)
    finally:
        snapshot.close()


def revision_of(engine: Engine) -> int:
    return stands_at(engine)[1]


class Conformance:
    """The rules. Classes that run them define the fixture `bench`."""

    def test_a_new_store_is_empty_at_revision_one(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            assert stands_at(engine) == (0, 1)
            assert not any(pairs(engine, table) for table in (NOW, LOG, HISTORY))
            assert get(engine, NOW, b"a") is None

        run(bench, body)

    def test_a_batch_lands_whole_and_moves_the_revision(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            writes = [(NOW, b"a", b"1"), (LOG, log_key(2), b"2"), (NOW, b"b", b""), (LOG, log_key(3), b"3")]
            await land(engine, Batch(0, 1, 3, writes))
            assert revision_of(engine) == 3
            assert pairs(engine) == [(b"a", b"1"), (b"b", b"")]
            assert pairs(engine, LOG) == [(log_key(2), b"2"), (log_key(3), b"3")]

        run(bench, body)

    def test_the_same_key_in_two_tables_is_two_records(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            key = hkey(b"k", 2)
            await write(engine, (NOW, key, b"now"), (HISTORY, key, b"then"), (META, key, b"meta"))
            assert [get(engine, table, key) for table in (NOW, HISTORY, META, LOG)] == [b"now", b"then", b"meta", None]

        run(bench, body)

    def test_a_batch_applies_its_writes_in_order(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            twice = (
                (NOW, b"k", b"1"),
                (NOW, b"k", None),
                (NOW, b"k", b"2"),
                (NOW, b"gone", b"x"),
                (NOW, b"gone", None),
            )
            await write(engine, *twice)
            assert pairs(engine) == [(b"k", b"2")]

        run(bench, body)

    def test_deleting_what_is_absent_is_no_error(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            await write(engine, (NOW, b"k", None), (META, b"k", None))
            await write(engine, (HISTORY, hkey(b"k", 2), None), (LOG, log_key(2), None), revisions=0)
            assert revision_of(engine) == 2

        run(bench, body)

    def test_what_was_written_can_be_deleted(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            keys = [(NOW, b"k"), (META, b"k"), (LOG, log_key(2)), (HISTORY, hkey(b"k", 2)), (HISTORY, hkey(b"l", 2))]
            await write(engine, *((table, key, b"v") for table, key in keys))
            await write(engine, *((table, key, None) for table, key in keys[:2]))
            await write(engine, *((table, key, None) for table, key in keys[2:4]), revisions=0)
            assert [get(engine, table, key) for table, key in keys] == [None] * 4 + [b"v"]

        run(bench, body)

    def test_a_snapshot_does_not_move(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            await write(engine, (NOW, b"a", b"old"))
            before = engine.snapshot()
            await write(engine, (NOW, b"a", b"new"), (NOW, b"b", b"new"))
            assert before.revision == 2
            assert list(before.scan(NOW, b"", None)) == [(b"a", b"old")]
            assert get(engine, NOW, b"a") == b"new"
            before.close()
            with pytest.raises(ValueError, match="closed"):
                before.get(NOW, b"a")

        run(bench, body)

    @pytest.mark.parametrize(
        ("epoch", "expected"),
        [(1, 1), (0, 2), (0, 0)],
        ids=["another epoch", "a later revision", "an earlier revision"],
    )
    def test_a_batch_that_expects_another_state_is_fenced_and_writes_nothing(
        self, bench: Bench, epoch: int, expected: int
    ) -> None:
        async def body(engine: Engine) -> None:
            with pytest.raises(Fenced):
                await land(engine, Batch(epoch, expected, expected + 1, [(NOW, b"k", b"v")]))
            assert (revision_of(engine), pairs(engine)) == (1, [])

        run(bench, body)

    def test_promotion_fences_the_earlier_epoch(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            first, second = (await engine.promote(100)).epoch, (await engine.promote(200)).epoch
            assert (epoch_number(first), epoch_number(second)) == (1, 2)
            with pytest.raises(Fenced):
                await land(engine, Batch(first, 1, 2, []))
            await land(engine, Batch(second, 1, 2, [(NOW, b"k", b"v")]))
            assert revision_of(engine) == 2

        run(bench, body)

    def test_a_batch_may_leave_the_revision_alone(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            await write(engine, (META, b"clock", b"1"), revisions=0)
            assert (revision_of(engine), get(engine, META, b"clock")) == (1, b"1")

        run(bench, body)

    def test_outcomes_are_reported_in_order_and_a_failed_batch_stops_its_successors(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            batches = [Batch(0, 1, 2, [(NOW, b"a", b"1")]), Batch(0, 9, 10, []), Batch(0, 2, 3, [(NOW, b"b", b"1")])]
            reported = await outcomes(engine, [*batches, Batch(0, 10, 11, [])])
            assert [type(outcome) for outcome in reported] == [type(None), Fenced, type(None), Fenced]
            assert pairs(engine) == [(b"a", b"1"), (b"b", b"1")]

        run(bench, body)

    def test_outcomes_are_reported_from_the_loop_not_from_submit(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            done = asyncio.Event()
            inside = True

            def on_done(error: EngineError | None) -> None:
                assert not inside
                assert error is None
                done.set()

            engine.submit(Batch(0, 1, 2, []), on_done)
            inside = False
            await done.wait()

        run(bench, body)

    def test_a_reported_batch_is_shown(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            shown: list[bytes | None] = []
            everything = asyncio.Event()

            def done(error: EngineError | None) -> None:
                assert error is None
                shown.append(get(engine, NOW, b"k"))
                if len(shown) == 20:
                    everything.set()

            for number in range(20):
                engine.submit(Batch(0, 1 + number, 2 + number, [(NOW, b"k", b"%d" % number)]), done)
            await everything.wait()
            assert all(int(value or b"-1") >= number for number, value in enumerate(shown))

        run(bench, body)

    def test_what_became_of_a_batch_can_be_asked(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            epoch = (await engine.promote()).epoch
            assert await resolved(engine, Batch(epoch, 1, 2, [(NOW, b"k", b"v")])) is False
            await land(engine, Batch(epoch, 1, 2, [(NOW, b"k", b"v")]))
            assert isinstance(await resolved(engine, Batch(epoch - 1, 2, 3, [])), Fenced)
            assert isinstance(await resolved(engine, Batch(epoch, 7, 8, [])), Fenced)

        run(bench, body)

    def test_scan_bounds_limit_and_direction(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            keys = [b"a", b"b", b"b\0", b"ba", b"c", b"\xff", b"\xff\xff"]
            await write(engine, *((NOW, key, b"v") for key in keys))
            assert scanned(engine) == keys
            assert scanned(engine, b"b", b"c") == [b"b", b"b\0", b"ba"]
            assert scanned(engine, b"b", b"c", reverse=True) == [b"ba", b"b\0", b"b"]
            assert scanned(engine, b"b", b"b\0") == [b"b"]
            assert scanned(engine, b"b", None, limit=2) == [b"b", b"b\0"]
            assert scanned(engine, limit=2, reverse=True) == [b"\xff\xff", b"\xff"]
            assert scanned(engine, b"c", b"b") == []
            assert scanned(engine, b"c", b"b", reverse=True) == []
            assert scanned(engine, b"\xff\xff\xff", None) == []
            assert scanned(engine, b"", b"a", reverse=True) == []

        run(bench, body)

    def test_scan_crosses_what_an_engine_fetches_at_once(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            keys = [b"%05d" % number for number in range(1000)]
            await write(engine, *((NOW, key, key) for key in keys))
            assert scanned(engine) == keys
            assert scanned(engine, reverse=True) == keys[::-1]
            assert scanned(engine, limit=600) == keys[:600]
            assert scanned(engine, limit=600, reverse=True) == keys[:399:-1]

        run(bench, body)

    def test_bounds_longer_than_any_stored_key(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            stored = [b"k" * 510, b"k" * 511, b"l"]
            await write(engine, *((NOW, key, b"v") for key in stored))
            assert scanned(engine, b"k" * 600, None) == [b"l"]
            assert scanned(engine, b"k" * 511, b"k" * 600) == [b"k" * 511]
            assert scanned(engine, b"", b"k" * 600) == stored[:2]
            assert scanned(engine, b"", b"k" * 600, reverse=True) == stored[1::-1]
            assert get(engine, NOW, b"k" * 600) is None

        run(bench, body)

    def test_values_are_framed_as_fields(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            big = b"x" * 300
            await write(engine, (NOW, b"a", b"1"), (NOW, b"b", b""), (NOW, b"c", big))
            snapshot = engine.snapshot()
            whole = b"\x12\x011" + b"\x12\x00" + b"\x12\xac\x02" + big
            assert snapshot.values(NOW, b"", None, 0, 1 << 30, 0x12) == (whole, 3, None)
            assert snapshot.values(NOW, b"", None, 2, 1 << 30, 0x12) == (b"\x12\x011\x12\x00", 2, b"c")
            assert snapshot.values(NOW, b"", b"c", 2, 1 << 30, 0x12) == (b"\x12\x011\x12\x00", 2, None)
            assert snapshot.values(NOW, b"", None, 0, 4, 0x12) == (b"\x12\x011\x12\x00", 2, b"c")
            assert snapshot.values(NOW, b"c", None, 0, 1, 0x12) == (whole[5:], 1, None)
            assert snapshot.values(NOW, b"d", None, 0, 1, 0x12) == (b"", 0, None)
            assert snapshot.measure(NOW, b"", None, 0) == (len(whole), 3)
            assert snapshot.measure(NOW, b"", None, 2) == (5, 2)
            assert snapshot.measure(NOW, b"b", b"c", 0) == (2, 1)
            snapshot.close()

        run(bench, body)

    def test_large_values_and_any_bytes_come_back_as_they_were(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            every = bytes(range(256))
            rows = [(NOW, every, every * 5), (NOW, b"\0", b"\0"), (NOW, b"big", os.urandom(3 << 20))]
            await write(engine, *rows, (META, every, every), (HISTORY, hkey(every[:100], 2), every))
            assert pairs(engine) == sorted((key, value) for _, key, value in rows)
            assert get(engine, META, every) == get(engine, HISTORY, hkey(every[:100], 2)) == every

        run(bench, body)

    def test_backup_is_a_store_of_its_own(self, bench: Bench, tmp_path: Path) -> None:
        async def body(engine: Engine) -> None:
            await write(engine, (NOW, b"a", b"1"), (LOG, log_key(2), b"2"))
            target = tmp_path / "backup"
            await asyncio.to_thread(engine.backup, str(target))
            await write(engine, (NOW, b"a", b"changed"))
            copy = bench.backed_up(target)
            assert (revision_of(copy), get(copy, NOW, b"a"), get(copy, LOG, log_key(2))) == (2, b"1", b"2")
            await write(copy, (NOW, b"b", b"2"))
            copy.close()

        run(bench, body)

    def test_defragment_keeps_content_and_open_snapshots(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            await write(engine, *((NOW, b"%d" % number, b"x" * 1000) for number in range(500)))
            await write(engine, *((NOW, b"%d" % number, None) for number in range(1, 500)))
            before = engine.snapshot()
            size = engine.size()
            await asyncio.to_thread(engine.defragment)
            assert engine.size() < size or type(engine).__name__ == "MemoryEngine"
            assert engine.size_in_use() <= engine.size()
            assert before.get(NOW, b"0") == b"x" * 1000
            await write(engine, (NOW, b"after", b"1"))
            assert before.get(NOW, b"after") is None
            before.close()
            assert scanned(engine) == [b"0", b"after"]

        run(bench, body)

    def test_a_closed_engine_says_so(self, bench: Bench) -> None:
        async def body(engine: Engine) -> None:
            await shut(engine)
            engine.close()
            with pytest.raises(EngineError, match="closed"):
                engine.snapshot()

        run(bench, body)
