"""A store made out of another one: whole, or not to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.engine.base import EngineError, Fenced, LocalEngine, Table, Write
from wharf.brain.store.filling import (
    PIECE_BYTES,
    PIECE_ROWS,
    Filling,
    StoreInUse,
    close_target,
    open_target,
    pieces,
)
from wharf.brain.store.keys import META_COMPACT, parse_u64
from wharf.brain.store.shapes import PutOp
from wharf.brain.store.store import Store

ROW: Write = (Table.NOW, b"k", b"v")


def on(directory: Path, work: Callable[[LocalEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        engine = await open_target(f"lmdb://{directory}")
        try:
            await work(engine)  # type: ignore[arg-type]  # LMDB is local
        finally:
            await close_target(engine)

    asyncio.run(main())


async def refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="unfinished"):
        await Store(engine).start()


async def served(engine: LocalEngine) -> None:
    store = Store(engine)
    await store.start()
    await store.stop()


def test_it_is_served_when_it_is_finished(tmp_path: Path) -> None:
    async def fill(engine: LocalEngine) -> None:
        filling = Filling(engine, 7)
        assert await filling.begin() == 1
        await refused(engine)
        assert await filling.begin() == 1
        await filling.rows([ROW])
        await filling.base(9)
        await refused(engine)
        assert await filling.begin() == 9
        await filling.forward(10, [(Table.NOW, b"l", b"v")])
        await filling.finish()
        snapshot = engine.snapshot()
        assert snapshot.revision == 10
        assert parse_u64(snapshot.get(Table.META, META_COMPACT)) == 9
        assert [key for key, _ in snapshot.scan(Table.NOW, b"", None)] == [b"k", b"l"]
        snapshot.close()

    on(tmp_path, fill)


def test_a_broken_attempt_is_cleared_away(tmp_path: Path) -> None:
    async def fill(engine: LocalEngine) -> None:
        filling = Filling(engine, 7)
        await filling.begin()
        rows: list[Write] = [(Table.NOW, b"%d" % number, b"v") for number in range(PIECE_ROWS + 5)]
        await filling.rows([*rows, (Table.LOG, b"12345678", b""), (Table.HISTORY, b"k\0\1" + bytes(8), b"")])
        again = Filling(engine, 8)  # nothing is settled yet, so another source may take over
        assert await again.begin() == 1
        snapshot = engine.snapshot()
        assert [list(snapshot.scan(table, b"", None)) for table in (Table.LOG, Table.NOW, Table.HISTORY)] == [[]] * 3
        snapshot.close()

    on(tmp_path, fill)


def test_only_its_source_may_go_on(tmp_path: Path) -> None:
    async def fill(engine: LocalEngine) -> None:
        filling = Filling(engine, 7)
        await filling.begin()
        await filling.base(9)
        with pytest.raises(StoreInUse, match="another source"):
            await Filling(engine, 8).begin()
        assert await Filling(engine, 7).begin() == 9

    on(tmp_path, fill)


def test_a_store_with_data_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def write(engine: LocalEngine) -> None:
        store = Store(engine)
        await store.start()
        done = asyncio.Event()
        store.submit(PutOp(b"k", b"v"), lambda _: done.set())
        await done.wait()
        with pytest.raises(StoreInUse, match="revision 2"):
            await Filling(engine, 7).begin()
        store.submit(PutOp(b"k", b"w"), lambda _: done.set())  # it still leads
        await store.stop()
        assert store.revision == 3

    on(tmp_path, write)


def test_a_store_that_was_only_started_is_new(tmp_path: Path) -> None:
    async def fill(engine: LocalEngine) -> None:
        await served(engine)
        assert await Filling(engine, 7).begin() == 1

    on(tmp_path, fill)


def test_another_writer_ends_it(tmp_path: Path) -> None:
    async def fill(engine: LocalEngine) -> None:
        filling = Filling(engine, 7)
        await filling.begin()
        await engine.promote()
        with pytest.raises(Fenced, match="somebody else"):
            await filling.rows([ROW])

    on(tmp_path, fill)


@given(st.lists(st.integers(0, PIECE_BYTES + 10), max_size=20))
def test_pieces_are_bounded_and_whole(sizes: list[int]) -> None:
    value = bytes(max(sizes, default=0))
    writes: list[Write] = [(Table.NOW, b"%d" % at, value[:size]) for at, size in enumerate(sizes)]
    found = list(pieces(writes))
    assert [write for piece in found for write in piece] == writes
    for piece in found:
        assert piece
        assert sum(len(write[2] or b"") for write in piece[:-1]) < PIECE_BYTES
