"""Watch streams: what passes between a client and the hub."""

from __future__ import annotations

from brain.api.fakes import FakeCall
from brain.api.harness import WATCH, Server, run
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.errors import Stopped
from wharf.wire.rpc import Code


def create(**options: object) -> rpc.WatchRequest:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(**options))  # type: ignore[arg-type]


async def responses(call: FakeCall, count: int) -> list[rpc.WatchResponse]:
    return [rpc.WatchResponse.FromString(data) for data in await call.wait_sent(count)]


def test_events_follow_the_creation() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a", range_end=b"b", prev_kv=True))
        await server.put(b"a1", b"x")
        await server.put(b"a1", b"y")
        await server.put(b"b1", b"elsewhere")
        created, first, second = await responses(call, 3)
        assert (created.created, created.watch_id, created.header.revision) == (True, 0, 1)
        assert [(event.type, event.kv.value) for event in first.events] == [(mvcc.Event.PUT, b"x")]
        assert second.events[0].prev_kv.value == b"x"
        assert len(call.sent) == 3
        call.cancel()

    run(scenario)


def test_cancel_and_progress() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a", watch_id=7))
        await responses(call, 1)
        call.say(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
        progress = (await responses(call, 2))[1]
        assert (progress.watch_id, progress.header.revision, len(progress.events)) == (-1, 1, 0)
        call.say(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=7)))
        canceled = (await responses(call, 3))[2]
        assert (canceled.watch_id, canceled.canceled) == (7, True)
        call.cancel()

    run(scenario)


def test_filters_are_carried() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a", filters=[rpc.WatchCreateRequest.NODELETE, rpc.WatchCreateRequest.NOPUT]))
        other = server.client.open(WATCH)
        other.say(create(key=b"a", filters=[rpc.WatchCreateRequest.NODELETE]))
        await server.put(b"a")
        assert (await responses(other, 2))[1].events[0].type == mvcc.Event.PUT
        assert len(call.sent) == 1
        call.cancel()
        other.cancel()

    run(scenario)


def test_a_request_that_asks_nothing_is_passed_over() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(rpc.WatchRequest())
        call.say(create(key=b"a"))
        assert (await responses(call, 1))[0].created
        call.cancel()

    run(scenario)


def test_a_malformed_request_ends_the_stream_and_its_watches() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a"))
        assert call.on_message is not None
        call.on_message(b"\x0a\xff")
        assert call.code == Code.INTERNAL
        assert call.text.startswith("grpc: failed to unmarshal the received message: ")
        assert server.node.hub.watchers == 0

    run(scenario)


def test_a_client_that_goes_takes_its_watches_along() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a"))
        assert server.node.hub.watchers == 1
        call.cancel()
        assert server.node.hub.watchers == 0

    run(scenario)


def test_a_stopping_server_ends_streams_in_a_way_clients_resume_from() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(WATCH)
        call.say(create(key=b"a"))
        await server.api.stop()
        assert (call.code, call.text) == (Code.UNAVAILABLE, Stopped.text)
        assert server.node.hub.watchers == 0
        late = server.client.open(WATCH)
        assert (late.code, late.text) == (Code.UNAVAILABLE, Stopped.text)

    run(scenario)
