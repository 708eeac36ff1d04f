"""What went wrong in other stores, one test per incident (numbers: etcd's issues), named for the rule that was broken.

Incidents of raft, of authorization and of a paused process that still answers have no counterpart on one node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from brain.faulty import Fault, FaultyEngine, ask, fill, running, submit
from brain.watch.kit import EVERYTHING, Client, settle, watched
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Table
from wharf.brain.errors import Compacted
from wharf.brain.store.shapes import DeleteOp, PutOp, RangeOp, TxnOp
from wharf.brain.store.store import Store
from wharf.brain.watch import hub as hub_module
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.common.pb.etcd import rpc_pb2 as rpc

Body = Callable[[Store, Hub], Awaitable[None]]


def run(body: Body) -> None:
    async def main() -> None:
        async with watched() as (store, hub):
            await body(store, hub)

    asyncio.run(main())


async def puts(store: Store, count: int, key: bytes = b"a") -> None:
    await fill(store, [PutOp(key, b"%d" % n) for n in range(count)])


def test_13766_a_revision_is_never_counted_twice_over_a_restart(tmp_path: Path) -> None:
    """Inconsistent revision after a crash under load: the engine's revision and its data are one batch."""

    async def body() -> None:
        url = f"lmdb://{tmp_path}"
        engine = open_engine(url)
        store = Store(engine)
        await store.start()
        store.submit(PutOp(b"lost", b"never awaited"), lambda _: None)
        await puts(store, 20)
        await store.stop()
        engine.close()
        again = open_engine(url)
        async with running(again) as store:
            snapshot = again.snapshot()
            logged = [int.from_bytes(key, "big") for key, _ in snapshot.scan(Table.LOG, b"", None)]
            snapshot.close()
            assert logged == list(range(2, store.revision + 1))
            assert (await submit(store, PutOp(b"a", b"x"))).revision == store.revision == logged[-1] + 1
        again.close()

    asyncio.run(body())


def test_14370_an_acknowledged_write_is_in_the_engine() -> None:
    """A single node lost an acknowledged write in a crash: what is answered is what a new process finds."""

    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            engine.held = []
            writing = asyncio.create_task(submit(store, PutOp(b"a", b"1")))
            await asyncio.sleep(0.01)
            assert not writing.done()
            engine.release()
            await writing
            async with running(engine.inner) as crashed:
                assert crashed.range(RangeOp(b"a")).count == 1

    asyncio.run(body())


def test_14685_defragmenting_changes_no_revision(tmp_path: Path) -> None:
    async def body() -> None:
        engine = open_engine(f"lmdb://{tmp_path}")
        async with running(engine) as store:
            await puts(store, 50)
            before = store.range(RangeOp(b"\0", b"\0"))
            defragmenting = asyncio.create_task(asyncio.to_thread(engine.defragment))
            await puts(store, 10, b"b")
            await defragmenting
            assert store.range(RangeOp(b"a")).framed == before.framed
            assert (await submit(store, PutOp(b"c", b"1"))).revision == 62
        engine.close()

    asyncio.run(body())


@pytest.mark.parametrize("paced", [False, True])
def test_15220_progress_comes_after_the_events_it_covers(paced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress overtook events on the stream; a cache that believed it missed them for ever."""
    if paced:
        monkeypatch.setattr(hub_module, "SHORT", -1.0)
        monkeypatch.setattr(hub_module, "PACE", 1e9)

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        client.watch(WatchSpec(b"a", start_revision=1))
        for _ in range(30):
            await puts(store, 2)
            client.stream.progress()
        covered = 1
        for response in client.responses:
            if response.events and response.watch_id == 0:
                assert all(event.kv.mod_revision > covered for event in response.events)
            elif response.watch_id == -1:
                covered = response.header.revision
        assert covered == store.revision

    run(body)


def test_15220_a_lagging_watcher_silences_progress_until_it_is_asked_for_again() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 10)
        client = Client(hub, room=2)
        client.watch(EVERYTHING)
        client.watch(WatchSpec(b"b"))
        await puts(store, 10)
        client.stream.progress()
        client.drain()
        client.stream.progress()
        assert client.progress() == [], "not synced yet"
        await settle(hub)
        assert client.progress() == [], "requests are not remembered"
        client.stream.progress()
        assert client.progress() == [store.revision]

    run(body)


def test_15271_a_watch_never_travels_back_in_time() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub, room=3)
        client.watch(EVERYTHING)
        for _ in range(20):
            await puts(store, 3)
            client.drain(room=2)
            await asyncio.sleep(0)
        client.drain()
        await settle(hub)
        revisions = [event.revision for event in client.events()]
        assert revisions == list(range(2, store.revision + 1))

    run(body)


def test_17247_an_event_is_delivered_once_whatever_path_its_transaction_took() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        request = rpc.TxnRequest()
        request.compare.add(key=b"a", target=2, mod_revision=0)
        request.success.add().request_put.MergeFrom(rpc.PutRequest(key=b"a", value=b"1"))
        answers: list[object] = []
        for _ in range(3):
            store.submit_fast(request.SerializeToString(), answers.append, answers.append)
        await submit(store, TxnOp((), (PutOp(b"b", b"1"), RangeOp(b"a"))))
        assert len(answers) == 3
        assert [(event.key, event.revision) for event in client.events()] == [(b"a", 2), (b"b", 3)]

    run(body)


def test_17247_a_batch_of_unknown_outcome_is_announced_once() -> None:
    async def body() -> None:
        async with watched(FaultyEngine([Fault.LANDED, Fault.LOST])) as (store, hub):
            client = Client(hub)
            client.watch()
            await puts(store, 2)
            await puts(store, 2)
            assert [event.revision for event in client.events()] == [2, 3, 4, 5]

    asyncio.run(body())


def test_17529_no_event_is_lost_when_a_stream_starves() -> None:
    """Many watchers on one stream that is taken slowly: each gets everything."""

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub, room=50)
        ids = [client.watch(WatchSpec(b"a", b"z")) for _ in range(50)]
        client.room = 7
        for _ in range(10):
            await puts(store, 5)
            await asyncio.sleep(0)
        while hub.slow_watchers:
            client.drain(room=3)
            await settle(hub)
        wanted = list(range(2, 52))
        assert all([event.revision for event in client.events(watch_id)] == wanted for watch_id in ids)

    run(body)


def test_17780_a_restart_during_compaction_does_not_decrease_the_revision(tmp_path: Path) -> None:
    """The compacted-away tail was the only witness of the revision; here it is its own record."""

    async def body() -> None:
        engine = open_engine(f"lmdb://{tmp_path}")
        async with running(engine) as store:
            await puts(store, 20)
            await submit(store, DeleteOp(b"a"))
            await ask(store.compact, store.revision, True)
            revision = store.revision
        engine.close()
        engine = open_engine(f"lmdb://{tmp_path}")
        async with running(engine) as store:
            assert (store.revision, store.compact_revision) == (revision, revision)
            assert (await submit(store, PutOp(b"a", b"1"))).revision == revision + 1
        engine.close()

    asyncio.run(body())


@pytest.mark.parametrize("physical", [False, True])
def test_18089_19179_a_delete_at_the_compacted_revision_is_still_an_event(physical: bool) -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 3)
        await submit(store, DeleteOp(b"a"))
        await ask(store.compact, store.revision, physical)
        client = Client(hub)
        client.watch(WatchSpec(b"a", start_revision=store.revision))
        await settle(hub)
        assert [(event.kind, event.revision) for event in client.events()] == [("DELETE", 5)]

    run(body)


def test_18089_compaction_under_a_running_watch_drops_nothing() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a", b"c", prev_kv=True))
        for _ in range(15):
            await puts(store, 2)
            await submit(store, DeleteOp(b"a"))
            await ask(store.compact, store.revision, False)
        await settle(hub)
        assert [event.revision for event in client.events()] == list(range(2, store.revision + 1))
        assert all(event.prev is not None for event in client.events() if event.kind == "DELETE")

    run(body)


def test_18667_a_compacted_read_in_a_transaction_refuses_all_of_it() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 5)
        await ask(store.compact, 4, False)
        before = store.revision
        with pytest.raises(Compacted):
            await submit(store, TxnOp((), (PutOp(b"b", b"1"), RangeOp(b"a", revision=2))))
        assert (store.revision, store.range(RangeOp(b"b")).count) == (before, 0)

    run(body)


def test_18667_a_compaction_that_is_still_pending_counts() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 5)
        compacting = asyncio.create_task(ask(store.compact, 4, False))
        await asyncio.sleep(0)
        with pytest.raises(Compacted):
            await submit(store, TxnOp((), (PutOp(b"b", b"1"), RangeOp(b"a", revision=2))))
        await compacting

    run(body)


def test_20221_a_watch_on_the_future_is_told_nothing_before_it() -> None:
    """Neither events that are older nor progress, asked for or periodic."""

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a", start_revision=6, progress_notify=True))
        for _ in range(4):
            await puts(store, 1)
            client.stream.progress()
            client.stream._tick()
        assert (store.revision, len(client.responses)) == (5, 1)
        await puts(store, 3)
        await settle(hub)
        client.stream.progress()
        assert [event.revision for event in client.events()] == [6, 7, 8]
        assert client.progress() == [8]
        client.stream.close()

    run(body)


def test_20221_the_next_revision_is_the_future_too() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 1)
        client = Client(hub)
        client.watch(WatchSpec(b"a", start_revision=3))
        client.stream.progress()
        assert client.progress() == []
        await puts(store, 1)
        client.stream.progress()
        assert client.progress() == [3]

    run(body)


def test_a_transaction_is_not_split_over_responses() -> None:
    """Clients resume after the last revision they saw: half a revision is lost for ever."""

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub, room=5)
        client.watch(EVERYTHING)
        for _ in range(20):
            await submit(store, TxnOp((), tuple(PutOp(b"k%d" % n, b"v") for n in range(6))))
            client.drain(room=1)
        client.drain()
        await settle(hub)
        ends = [response.events[-1].kv.mod_revision for response in client.responses if response.events]
        begins = [response.events[0].kv.mod_revision for response in client.responses if response.events]
        assert all(end < begin for end, begin in zip(ends, begins[1:], strict=False))
        assert len(client.events()) == 120

    run(body)
