"""Watchers that lag: fed from the log, as far as they take it, at nobody else's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from brain.faulty import ask, fill, submit
from brain.watch.kit import EVERYTHING, Client, settle, watched
from wharf.brain.store.shapes import DeleteOp, PutOp, TxnOp
from wharf.brain.store.store import Store
from wharf.brain.watch import hub as hub_module
from wharf.brain.watch import replay
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec

Body = Callable[[Store, Hub], Awaitable[None]]


def run(body: Body) -> None:
    async def main() -> None:
        async with watched() as (store, hub):
            await body(store, hub)

    asyncio.run(main())


async def puts(store: Store, count: int, size: int = 10) -> None:
    await fill(store, [PutOp(b"k%d" % (n % 7), b"v" * size) for n in range(count)])


def revisions(client: Client, watch_id: int = 0) -> list[int]:
    return [event.revision for event in client.events(watch_id)]


def test_history_then_the_present_without_gap_or_repetition() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 50)
        client = Client(hub)
        client.watch(WatchSpec(b"\0", b"\0", start_revision=10))
        await puts(store, 50)
        await settle(hub)
        assert revisions(client) == list(range(10, 102))
        assert hub.slow_watchers == 0

    run(body)


def test_a_full_stream_makes_its_watchers_lag_and_stalls_nobody() -> None:
    async def body(store: Store, hub: Hub) -> None:
        slow, quick = Client(hub, room=1), Client(hub)
        slow.watch()
        quick.watch()
        await puts(store, 30)
        assert revisions(quick) == list(range(2, 32))
        assert (revisions(slow), hub.slow_watchers) == ([], 1)
        await puts(store, 10)
        slow.drain(room=1)
        await settle(hub)
        assert revisions(slow) == list(range(2, 42))
        await puts(store, 1)
        slow.drain()
        await settle(hub)
        assert revisions(slow) == list(range(2, 43))
        assert hub.slow_watchers == 0

    run(body)


def test_a_lagging_stream_gets_bounded_pieces_as_it_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK_BYTES", 1000)

    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 100, size=100)
        client = Client(hub, room=2)
        client.watch(WatchSpec(b"\0", b"\0", start_revision=1))
        await settle(hub)
        assert len(client.responses) == 2, "one piece, then the stream was full"
        for _ in range(30):
            client.drain(room=1)
            await settle(hub)
        assert revisions(client) == list(range(2, 102))
        assert max(response.ByteSize() for response in client.responses) < 1400

    run(body)


def test_a_revision_is_not_split_by_the_size_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK_BYTES", 100)
    monkeypatch.setattr(replay, "CHUNK_REVISIONS", 2)

    async def body(store: Store, hub: Hub) -> None:
        for _ in range(4):
            await submit(store, TxnOp((), tuple(PutOp(b"k%d" % n, b"v" * 50) for n in range(5))))
        client = Client(hub)
        client.watch(WatchSpec(b"\0", b"\0", start_revision=2))
        await settle(hub)
        assert [len(response.events) for response in client.responses] == [0, 5, 5, 5, 5]

    run(body)


def test_a_response_to_a_laggard_claims_no_revision_it_has_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK_REVISIONS", 3)

    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 9)
        client = Client(hub)
        client.watch(WatchSpec(b"\0", b"\0", start_revision=2))
        await settle(hub)
        assert [response.header.revision for response in client.responses[1:]] == [4, 7, 10]

    run(body)


def test_laggards_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much one has to read, the loop is given back after each slice and everybody gets there."""
    monkeypatch.setattr(replay, "SLICE", 0.0)

    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 20)
        clients = [Client(hub) for _ in range(20)]
        for number, client in enumerate(clients):
            client.watch(WatchSpec(b"\0", b"\0", start_revision=2 + number % 3))
        turns = 0
        while hub.slow_watchers:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 1
        assert [revisions(client)[0] for client in clients] == [2 + number % 3 for number in range(20)]

    run(body)


def test_compaction_overtaking_a_laggard_is_told_with_its_revision() -> None:
    async def body(store: Store, hub: Hub) -> None:
        slow = Client(hub, room=1)
        slow.watch()
        await puts(store, 10)
        await ask(store.compact, 8, True)
        slow.drain()
        await settle(hub)
        last = slow.responses[-1]
        assert (last.canceled, last.compact_revision, last.watch_id, last.header.revision) == (True, 8, 0, 0)
        assert revisions(slow) == []
        assert hub.watchers == 0
        slow.stream.cancel(0)
        assert slow.responses[-1].canceled, "the id stays the client's until it cancels it"

    run(body)


def test_what_waits_for_a_paced_delivery_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "GATHER_BYTES", 2000)
    monkeypatch.setattr(hub_module, "SHORT", -1.0)
    monkeypatch.setattr(hub_module, "PACE", 1e9)
    monkeypatch.setattr(hub_module, "MAX_PAUSE", 1e9)

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        await puts(store, 1)
        for _ in range(40):
            await puts(store, 1, size=100)
        assert 2 < len(client.responses) < 20, "deliveries were paced, but not put off for ever"
        hub.flush()
        assert revisions(client) == list(range(2, 43))

    run(body)


def test_a_paced_delivery_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SHORT", -1.0)
    monkeypatch.setattr(hub_module, "PACE", 1e9)
    monkeypatch.setattr(hub_module, "MAX_PAUSE", 0.05)

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        await puts(store, 1)
        await puts(store, 1)
        await puts(store, 1)
        assert revisions(client) == [2]
        await client.until(lambda: len(revisions(client)) == 3)

    run(body)


def test_a_new_watcher_gets_nothing_that_was_gathered_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SHORT", -1.0)
    monkeypatch.setattr(hub_module, "PACE", 1e9)

    async def body(store: Store, hub: Hub) -> None:
        first, second = Client(hub), Client(hub)
        first.watch()
        await puts(store, 1)
        await puts(store, 1)
        second.watch()
        await puts(store, 1)
        hub.flush()
        assert (revisions(first), revisions(second)) == ([2, 3, 4], [4])

    run(body)


@pytest.mark.parametrize("start", [0, 1])
def test_a_stream_that_fails_harms_nobody_else(start: int) -> None:
    async def body(store: Store, hub: Hub) -> None:
        await puts(store, 3)
        clients = [Client(hub) for _ in range(3)]
        for number, client in enumerate(clients):
            client.watch(WatchSpec(b"\0", b"\0", start_revision=start))
            if number == 1:
                client.stream.send = fails
        await puts(store, 3)
        await settle(hub)
        wanted = list(range(2 if start else 5, 8))
        assert [revisions(client) for client in clients] == [wanted, [], wanted]

    run(body)


def fails(_: bytes) -> None:
    raise ConnectionError("reset by peer")


def test_deletes_of_leases_are_events_too() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(EVERYTHING)
        lease = await ask(store.leases.grant, 0, 60)
        await fill(store, [PutOp(b"b", b"1", lease.lease_id), PutOp(b"a", b"2", lease.lease_id)])
        await ask(store.leases.revoke, lease.lease_id)
        await settle(hub)
        assert [(event.kind, event.key, event.revision) for event in client.events()[2:]] == [
            ("DELETE", b"a", 4),
            ("DELETE", b"b", 4),
        ]

    run(body)


def test_a_watch_on_the_start_of_time_works() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"\0", b"\0", start_revision=1))
        await settle(hub)
        await submit(store, PutOp(b"a", b"1"))
        await submit(store, DeleteOp(b"a"))
        await settle(hub)
        assert revisions(client) == [2, 3]

    run(body)
