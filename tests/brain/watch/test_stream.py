"""What a client hears on its watch stream, rule by rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from brain.faulty import ask, submit
from brain.watch.kit import EVERYTHING, Client, Seen, settle, watched
from wharf.brain.store.shapes import DeleteOp, PutOp, TxnOp
from wharf.brain.store.store import Store
from wharf.brain.watch import responses
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.common.pb.etcd import rpc_pb2 as rpc

Body = Callable[[Store, Hub], Awaitable[None]]


def run(body: Body, progress_interval: float = 600.0) -> None:
    async def main() -> None:
        async with watched(progress_interval=progress_interval) as (store, hub):
            await body(store, hub)

    asyncio.run(main())


def test_created_comes_first_and_tells_the_present_revision() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await submit(store, PutOp(b"a", b"1"))
        client = Client(hub)
        client.watch(WatchSpec(b"a", start_revision=2))
        await settle(hub)
        first, second = client.responses
        assert (first.created, first.watch_id, first.header.revision, list(first.events)) == (True, 0, 2, [])
        assert (second.created, second.header.revision) == (False, 2)
        assert (first.header.cluster_id, first.header.member_id) == (store.cluster_id, store.member_id)
        assert client.events() == [Seen("PUT", b"a", b"1", 2)]

    run(body)


def test_a_watch_without_a_start_sees_only_what_comes() -> None:
    async def body(store: Store, hub: Hub) -> None:
        await submit(store, PutOp(b"a", b"1"))
        client = Client(hub)
        client.watch(WatchSpec(b"a"))
        await submit(store, PutOp(b"a", b"2"))
        await submit(store, PutOp(b"b", b"x"))
        assert client.events() == [Seen("PUT", b"a", b"2", 3)]

    run(body)


def test_ids_are_given_in_order_or_taken_from_the_client() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        assert [client.watch(), client.watch(WatchSpec(b"a", watch_id=2)), client.watch(), client.watch()] == [
            0,
            2,
            1,
            3,
        ]

    run(body)


REFUSED = [
    (WatchSpec(b"a", start_revision=-1), "etcdserver: mvcc: required revision has been compacted"),
    (WatchSpec(b"b", b"a"), "mvcc: watcher range is empty"),
    (WatchSpec(b"a", watch_id=7), "mvcc: duplicate watch ID provided on the WatchStream"),
]


@pytest.mark.parametrize(("spec", "reason"), REFUSED)
def test_a_refused_watch_is_created_and_canceled_under_no_id(spec: WatchSpec, reason: str) -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a", watch_id=7))
        client.stream.create(spec)
        answer = client.responses[-1]
        assert (answer.watch_id, answer.created, answer.canceled, answer.cancel_reason) == (-1, True, True, reason)
        assert answer.compact_revision == 0

    run(body)


def test_an_empty_key_watches_from_the_smallest_one() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"", b"\0"))
        await submit(store, PutOp(b"\0", b"1"))
        assert len(client.events()) == 1

    run(body)


def test_a_canceled_watch_hears_so_and_nothing_more() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        client.stream.cancel(0)
        client.stream.cancel(0)
        client.stream.cancel(5)
        await submit(store, PutOp(b"a", b"1"))
        assert len(client.responses) == 2
        answer = client.responses[-1]
        assert (answer.watch_id, answer.canceled, answer.cancel_reason, answer.compact_revision) == (0, True, "", 0)
        assert hub.watchers == 0

    run(body)


def test_a_canceled_id_may_be_used_again() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a", watch_id=5))
        client.stream.cancel(5)
        assert client.watch(WatchSpec(b"a", watch_id=5)) == 5

    run(body)


@pytest.mark.parametrize("start", [0, 2])
def test_prev_kv_is_what_a_change_replaced(start: int) -> None:
    """Live and from the log alike."""

    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        if not start:
            client.watch(WatchSpec(b"a", prev_kv=True))
        await submit(store, PutOp(b"a", b"1"))
        await submit(store, PutOp(b"a", b"2"))
        await submit(store, DeleteOp(b"a"))
        await submit(store, PutOp(b"a", b"3"))
        if start:
            client.watch(WatchSpec(b"a", start_revision=start, prev_kv=True))
            await settle(hub)
        assert client.events() == [
            Seen("PUT", b"a", b"1", 2),
            Seen("PUT", b"a", b"2", 3, b"1"),
            Seen("DELETE", b"a", b"", 4, b"2"),
            Seen("PUT", b"a", b"3", 5),
        ]

    run(body)


@pytest.mark.parametrize("start", [0, 2])
def test_filters_drop_puts_or_deletes(start: int) -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        specs = (
            WatchSpec(b"a", start_revision=start, no_put=True),
            WatchSpec(b"a", start_revision=start, no_delete=True),
            WatchSpec(b"a", start_revision=start, no_put=True, no_delete=True),
        )
        for spec in specs if not start else ():
            client.watch(spec)
        await submit(store, PutOp(b"a", b"1"))
        await submit(store, DeleteOp(b"a"))
        for spec in specs if start else ():
            client.watch(spec)
        await settle(hub)
        assert [[event.kind for event in client.events(watch_id)] for watch_id in range(3)] == [["DELETE"], ["PUT"], []]
        assert not any(response.watch_id == 2 for response in client.responses if not response.created)

    run(body)


def test_a_single_key_watch_sees_no_longer_key() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a"))
        await submit(store, PutOp(b"ab", b"1"))
        assert client.events() == []

    run(body)


@pytest.mark.parametrize("start", [0, 2])
def test_a_transaction_is_one_response(start: int) -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        if not start:
            client.watch()
        await submit(store, TxnOp((), tuple(PutOp(b"k%d" % n, b"v") for n in range(5))))
        if start:
            client.watch(WatchSpec(b"\0", b"\0", start_revision=2))
        await settle(hub)
        assert [len(response.events) for response in client.responses] == [0, 5]

    run(body)


# progress


def test_progress_answers_for_the_whole_stream() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch()
        client.watch(WatchSpec(b"a"))
        await submit(store, PutOp(b"a", b"1"))
        client.stream.progress()
        assert client.progress() == [2]

    run(body)


def test_a_stream_without_watchers_has_no_progress() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.stream.progress()
        assert client.responses == []

    run(body)


def test_a_compacted_watcher_withholds_progress_until_it_is_canceled() -> None:
    async def body(store: Store, hub: Hub) -> None:
        for value in (b"1", b"2", b"3"):
            await submit(store, PutOp(b"a", value))
        await ask(store.compact, 4, False)
        client = Client(hub)
        compacted = client.watch(WatchSpec(b"a", start_revision=2))
        client.watch(WatchSpec(b"a"))
        await settle(hub)
        client.stream.progress()
        assert client.progress() == []
        client.stream.cancel(compacted)
        client.stream.progress()
        assert client.progress() == [4]

    run(body)


def test_idle_watchers_that_want_it_are_told_how_far_they_are() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        told = client.watch(WatchSpec(b"a", progress_notify=True))
        other = client.watch(WatchSpec(b"a"))
        await submit(store, PutOp(b"b", b"1"))
        await client.until(lambda: client.progress(told))
        assert client.progress(told)[0] == 2
        assert client.progress(other) == []

    run(body, progress_interval=0.1)


def test_a_watcher_that_had_events_is_not_told_until_it_was_idle_for_a_whole_interval() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        client.watch(WatchSpec(b"a", progress_notify=True))
        await submit(store, PutOp(b"a", b"1"))
        client.stream._tick()
        assert client.progress(0) == []
        client.stream._tick()
        assert client.progress(0) == [2]
        client.stream.close()

    run(body)


# fragments


def test_fragments_only_for_those_who_asked() -> None:
    framed = [b"\x5a\x02\x12\x00"] * 5
    head = responses.events(b"\x0a\x00", 3, b"")
    whole = list(responses.fragments(b"\x0a\x00", 3, framed, 1000))
    assert whole == [head + b"".join(framed)]
    parts = list(responses.fragments(b"\x0a\x00", 3, framed, len(head) + 2 + 9))
    parsed = [rpc.WatchResponse.FromString(part) for part in parts]
    assert [len(part.events) for part in parsed] == [2, 2, 1]
    assert [part.fragment for part in parsed] == [True, True, False]
    assert {part.watch_id for part in parsed} == {3}


@pytest.mark.parametrize("start", [0, 2])
def test_a_large_revision_comes_in_fragments(start: int) -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        spec = WatchSpec(b"\0", b"\0", start_revision=start, fragment=True)
        if not start:
            client.watch(spec)
        ops = tuple(PutOp(b"k%d" % n, b"v" * 400_000) for n in range(8))
        await submit(store, TxnOp((), ops))
        if start:
            client.watch(spec)
        await settle(hub)
        parts = [response for response in client.responses if response.events]
        assert [part.fragment for part in parts] == [True, False]
        assert len(client.events()) == 8
        assert all(part.ByteSize() < 2 * 1024 * 1024 for part in parts)

    run(body)


def test_a_closed_stream_is_forgotten() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        for spec in (EVERYTHING, WatchSpec(b"a", start_revision=99), WatchSpec(b"a", progress_notify=True)):
            client.watch(spec)
        assert (hub.watchers, hub.streams) == (3, 1)
        client.stream.close()
        client.stream.close()
        count = len(client.responses)
        await submit(store, PutOp(b"a", b"1"))
        client.stream.create(EVERYTHING)
        assert (hub.watchers, hub.streams, len(client.responses)) == (0, 0, count)

    run(body)


def test_a_stream_may_close_while_it_is_being_fed() -> None:
    async def body(store: Store, hub: Hub) -> None:
        others = [Client(hub) for _ in range(3)]
        for other in others:
            other.watch()
        take = others[0].stream.send

        def send(message: bytes) -> None:
            take(message)
            others[1].stream.close()

        others[0].stream.send = send
        await submit(store, PutOp(b"a", b"1"))
        assert [len(other.events()) for other in others] == [1, 0, 1]

    run(body)


def test_progress_is_reported_after_a_turn_that_failed() -> None:
    async def body(store: Store, hub: Hub) -> None:
        client = Client(hub)
        watch_id = client.watch(WatchSpec(b"a", progress_notify=True))
        take, failures = client.stream.send, 2

        def broken(message: bytes) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ValueError("broken")
            take(message)

        client.stream.send = broken
        await client.until(lambda: client.progress(watch_id))
        client.stream.close()

    run(body, progress_interval=0.05)
