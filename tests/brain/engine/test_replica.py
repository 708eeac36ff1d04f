"""The scratch store of a node: what is queued, shown, trimmed and exchanged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from brain.engine.histories import Writer
from wharf.brain.engine import replica as module
from wharf.brain.engine._lmdb import LmdbError
from wharf.brain.engine.base import EngineCorrupt, EngineError, EngineFull, Snapshot, Table
from wharf.brain.engine.replica import Loading, Replica, scratch
from wharf.brain.store.compact import TRIES
from wharf.brain.store.keys import history_stem, log_key
from wire.net import eventually

NOW, LOG, HISTORY = Table.NOW, Table.LOG, Table.HISTORY


def on_replica(tmp_path: Path, body: Callable[[Replica], Awaitable[None]]) -> None:
    async def main() -> None:
        replica = Replica(scratch(tmp_path))
        try:
            await asyncio.wait_for(body(replica), 60)
        finally:
            replica.close()

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def revisions(replica: Replica, table: int = LOG) -> list[int]:
    """Revisions in the keys of LOG, or of HISTORY."""
    snapshot = replica.snapshot()
    try:
        return [int.from_bytes(key[-8:], "big") for key, _ in snapshot.scan(table, b"", None)]
    finally:
        snapshot.close()


async def put(replica: Replica, writer: Writer, *keys: bytes) -> None:
    _, writes = writer.batch([[(key, b"v")] for key in keys])
    outcome: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
    replica.queue(writes, {}, writer.revision, outcome.set_result)
    assert await outcome is None


def test_lookups_see_what_is_queued(tmp_path: Path) -> None:
    async def body(replica: Replica) -> None:
        seen: list[EngineError | None] = []
        for number in range(50):
            value = None if number % 7 == 3 else b"%d" % number
            replica.queue([(NOW, b"k", value)], {b"k": value}, number + 2, seen.append)
            with replica.lookups() as lookup:
                assert lookup(b"k") == value
                assert lookup(b"other") is None
        await replica.drained()
        assert seen == [None] * 50
        assert (replica.queued_revision, replica.read(NOW, b"k")) == (51, b"49")
        with replica.lookups() as lookup:
            assert lookup(b"k") == b"49"
        await replica.drained()

    on_replica(tmp_path, body)


def test_what_fails_last_leaves_room_for_another_try(tmp_path: Path) -> None:
    async def body(replica: Replica) -> None:
        seen: list[EngineError | None] = []
        replica.queue([(NOW, b"a", b"1")], {b"a": b"1"}, 2, seen.append)
        replica.queued_revision = 7  # as if it had missed something
        replica.queue([(NOW, b"a", b"2")], {b"a": b"2"}, 8, seen.append)
        await replica.drained()
        assert [error is None for error in seen] == [True, False]
        assert (replica.queued_revision, replica.read(NOW, b"a")) == (7, b"1")
        with replica.lookups() as lookup:
            assert lookup(b"a") == b"1"

    on_replica(tmp_path, body)


def test_trimming_deletes_what_compaction_frees_and_no_more(tmp_path: Path) -> None:
    async def body(replica: Replica) -> None:
        writer = Writer()
        for number in range(1500):
            await put(replica, writer, b"k", b"%d" % number)
        assert len(revisions(replica, HISTORY)) == 1499
        replica.trim(1001)
        replica.trim(2001)
        while revisions(replica)[0] < 2001:
            await asyncio.sleep(0)
            await replica.drained()
        assert revisions(replica) == list(range(2001, 3002))
        assert [ended for ended in revisions(replica, HISTORY) if ended <= 2001] == []
        assert replica.read(HISTORY, history_stem(b"k") + log_key(2002)) is not None
        await put(replica, writer, b"k")
        replica.is_trimmed(2001)
        replica.trim(2001)
        assert revisions(replica)[-1] == writer.revision

    on_replica(tmp_path, body)


def test_an_exchange_shows_the_new_and_leaves_open_snapshots_alone(tmp_path: Path) -> None:
    async def body(replica: Replica) -> None:
        await put(replica, Writer(), b"old")
        before = replica.snapshot()
        loading = replica.next_generation()
        loading.add([(NOW, b"new", b"1")])
        loading.add([(LOG, log_key(9), b"r")], 9)
        loading.end()
        await replica.exchange(loading, 9, 4)
        assert (before.revision, before.get(NOW, b"new")) == (2, None)
        after = replica.snapshot()
        assert (after.revision, after.get(NOW, b"new"), after.get(NOW, b"old")) == (9, b"1", None)
        before.close()
        after.close()
        await asyncio.to_thread(replica.defragment)
        seen: list[EngineError | None] = []
        replica.queue([(NOW, b"newer", b"2")], {}, 10, seen.append)
        await replica.drained()
        assert (seen, replica.read(NOW, b"newer")) == ([None], b"2")
        assert len(list(replica.home.glob("store-*.mdb"))) == 1

    on_replica(tmp_path, body)


def test_what_was_loaded_in_vain_is_discarded(tmp_path: Path) -> None:
    async def body(replica: Replica) -> None:
        loading = replica.next_generation()
        loading.add([(NOW, b"new", b"1")])
        loading.discard()
        assert len(list(replica.home.glob("store-*.mdb"))) == 1
        assert replica.read(NOW, b"new") is None

    on_replica(tmp_path, body)


def test_a_replica_without_room_says_what_it_needs(tmp_path: Path) -> None:
    loading = Loading(tmp_path / "store-2.mdb", 1 << 20)
    with pytest.raises(EngineFull, match="room of the whole store"):
        loading.add([(NOW, b"big", b"v" * (2 << 20))])
    loading.discard()
    with pytest.raises(EngineFull, match="cannot make a replica"):
        Loading(tmp_path / "nowhere" / "store-1.mdb", 1 << 20)


def test_directories_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    mine = Replica(scratch(tmp_path))
    abandoned = tmp_path / "replica-gone"
    abandoned.mkdir()
    abandoned.joinpath("LOCK").touch()
    abandoned.joinpath("store-1.mdb").write_bytes(b"old")
    other = scratch(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.home.name, other.name}
    os.rmdir(other)
    mine.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [EngineCorrupt("a page"), LmdbError(-30790, "mdb_txn_begin"), OSError("no snapshot")])
def test_trimming_that_fails_ends_and_goes_on_with_the_next_compaction(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FULL_DELAY", 0.0)

    async def body(replica: Replica) -> None:
        writer = Writer()
        for number in range(10):
            await put(replica, writer, b"k", b"%d" % number)
        whole, tries = replica.snapshot, 0

        def broken() -> Snapshot:
            nonlocal tries
            tries += 1
            raise error

        monkeypatch.setattr(replica, "snapshot", broken)
        replica.trim(5)
        await eventually(lambda: not replica._trimming)
        assert tries == (TRIES if isinstance(error, OSError) else 1)
        monkeypatch.setattr(replica, "snapshot", whole)
        replica.trim(6)
        while revisions(replica)[0] < 6:
            await asyncio.sleep(0)
            await replica.drained()

    on_replica(tmp_path, body)
    assert caplog.text.count("Traceback") == (TRIES if isinstance(error, OSError) else 0)
    assert str(error) in caplog.text
