"""Flow control end to end: windows open only when somebody took the bytes; a slow reader costs bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wharf.wire import grpc
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Code, RpcLimits
from wire.pair import STREAM, UNARY, Pair

MIB = 1 << 20


def test_a_huge_reply_to_a_slow_reader_is_pulled_only_as_it_is_taken() -> None:
    pulled = 0

    def parts() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(500):
            pulled += MIB
            yield bytes(MIB)

    pair = Pair(lambda message, call: call.reply_parts(500 * MIB, parts()), stream=_echo)
    pair.client.auto_take = False
    huge = pair.client.request(pair.headers(UNARY), grpc.frame(b""))
    pair.exchange()
    assert pulled <= 2 * MIB, "only a window's worth was produced"
    assert pair.server.streams[huge].queued <= 2 * MIB

    pair.client.auto_take = True  # another stream of the connection, its own window still open
    pair.client.take(huge)
    other = pair.call(STREAM, b"small")
    assert other.code == Code.OK
    assert other.messages == [b"small"]


def test_a_reader_that_reads_gets_all_of_it() -> None:
    total = 20 * MIB
    pair = Pair(lambda message, call: call.reply_parts(total, (bytes(65536) for _ in range(total // 65536))))
    answer = pair.call(UNARY, b"")
    assert len(answer.body) == total + 5
    assert answer.code == Code.OK


def test_a_paused_transport_stops_production() -> None:
    pulled = 0

    def parts() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(1000):
            pulled += 1000
            yield bytes(1000)

    pair = Pair(
        lambda message, call: call.reply_parts(1_000_000, parts()), client_window=8 * MIB, connection_window=8 * MIB
    )
    pair.exchange()
    pair.client.request(pair.headers(UNARY), grpc.frame(b""))

    def write_once(data: bytes) -> None:
        pair.written.append(data)
        pair.server.paused = True

    pair.server.write = write_once
    pair.server.receive(pair.client.pull(MIB) or b"")
    pair.server.pump()
    assert sum(map(len, pair.written)) <= pair.server.chunk + 16384 + 9
    assert pulled <= pair.server.chunk + 2 * 16384 + 1000
    pair.server.write = pair.written.append
    pair.server.paused = False
    pair.exchange()
    assert pulled == 1_000_000


def test_the_stream_window_is_given_back_when_the_handler_takes_the_messages() -> None:
    calls: list[Any] = []
    taken: list[bytes] = []

    def handler(call: Any) -> None:
        calls.append(call)
        call.on_message = taken.append
        call.pause_reading()

    pair = Pair(stream=handler, limits=ConnectionLimits(stream_window=65536))
    stream_id = pair.open(STREAM)
    pair.send(stream_id, *[bytes(1000)] * 500)
    assert taken == []
    assert pair.server.held_bytes == 65536, "the client is stopped by its window"
    assert pair.client.streams[stream_id].queued == 500 * 1005 - 65536
    assert pair.call(UNARY, b"others go on").code == Code.OK
    calls[0].resume_reading()
    pair.exchange()
    assert len(taken) == 500
    assert pair.server.held_bytes == 0


def test_held_bytes_of_a_connection_are_bounded() -> None:
    limits = ConnectionLimits(stream_window=65536, connection_window=100_000, held_max=100_000)
    pair = Pair(stream=lambda call: call.pause_reading(), limits=limits)
    for _ in range(10):
        stream_id = pair.client.request(pair.headers(STREAM), grpc.frame(bytes(60_000)), end=False)
    pair.exchange()
    assert pair.server.held_bytes <= 200_000
    for stream_id in list(pair.client.streams):
        pair.client.reset(stream_id)
    pair.exchange()
    assert pair.server.held_bytes == 0
    assert pair.call(UNARY, bytes(300_000)).code == Code.OK, "the connection's window came back"


def test_half_received_messages_are_bounded() -> None:
    pair = Pair(limits=ConnectionLimits(assembling_max=100_000))
    for _ in range(5):
        pair.client.request(pair.headers(UNARY), b"\0\0\0\xff\xff" + bytes(30_000), end=False)
    pair.exchange()
    refused = [event for event in pair.events if "too many request bytes" in _text(event)]
    assert len(refused) == 2
    assert pair.call(UNARY, b"x").code == Code.OK


def test_an_announced_size_costs_nothing_before_it_comes() -> None:
    pair = Pair(rpc_limits=RpcLimits(receive_max=2**31 - 1))
    for _ in range(100):
        pair.client.request(pair.headers(UNARY), b"\0\x7f\xff\xff\xff" + b"x", end=False)
    pair.exchange()
    assert pair.server.held_bytes == 0
    assert len(pair.server.streams) == 100


def test_buffered_writable_and_drain() -> None:
    calls: list[Any] = []
    drained: list[int] = []

    def handler(call: Any) -> None:
        calls.append(call)
        call.on_drain = lambda: drained.append(call.buffered)

    pair = Pair(stream=handler, rpc_limits=RpcLimits(high_water=100_000, low_water=10_000))
    pair.client.auto_take = False
    stream_id = pair.open(STREAM)
    call = calls[0]
    while call.writable:
        call.send(bytes(10_000))
    assert 100_000 < call.buffered <= 120_000
    pair.exchange()
    assert call.buffered > 10_000, "the window is 64 KiB"
    assert drained == []
    pair.client.take(stream_id)
    pair.exchange()
    assert len(drained) == 1
    assert drained[0] <= 10_000
    assert call.writable


def test_sending_from_on_drain_goes_on() -> None:
    left = [50]

    def handler(call: Any) -> None:
        def fill() -> None:
            while left[0] and call.writable:
                left[0] -= 1
                call.send(bytes(10_000))
            if not left[0]:
                call.finish()

        call.on_drain = fill
        fill()

    pair = Pair(stream=handler, rpc_limits=RpcLimits(high_water=30_000, low_water=10_000))
    answer = pair.call(STREAM)
    assert len(answer.messages) == 50
    assert answer.code == Code.OK


def test_a_reset_drops_what_was_queued() -> None:
    calls: list[Any] = []

    def handler(message: bytes, call: Any) -> None:
        calls.append(call)
        call.reply(bytes(10 * MIB))

    pair = Pair(handler)
    pair.client.auto_take = False
    pair.call(UNARY, b"")
    assert calls[0].buffered > MIB
    pair.client.reset(1)
    pair.exchange()
    assert calls[0].buffered == 0
    assert pair.server.streams == {}


def test_calls_wait_while_too_much_is_unsent() -> None:
    started = 0

    def handler(message: bytes, call: Any) -> None:
        nonlocal started
        started += 1
        call.reply(bytes(MIB))

    pair = Pair(handler, limits=ConnectionLimits(unsent_max=3 * MIB))
    pair.client.auto_take = False
    ids = [pair.client.request(pair.headers(UNARY), grpc.frame(b"")) for _ in range(100)]
    pair.exchange()
    assert started <= 5
    assert pair.server.unsent <= 5 * MIB
    pair.client.reset(ids[0])
    pair.client.reset(ids[50])
    pair.exchange()
    assert started <= 6
    pair.client.auto_take = True
    for stream_id in list(pair.client.streams):
        pair.client.take(stream_id)
    pair.exchange()
    assert started >= 98
    assert pair.server.unsent == 0
    assert pair.answer(ids[99]).code == Code.OK


def test_a_lost_connection_ends_what_waited() -> None:
    pair = Pair(lambda message, call: call.reply(bytes(MIB)), limits=ConnectionLimits(unsent_max=MIB))
    pair.client.auto_take = False
    for _ in range(10):
        pair.client.request(pair.headers(UNARY), grpc.frame(b""))
    pair.exchange()
    pair.server.close()
    route = pair.routes[UNARY]
    assert sum(route.handled) == route.started == 10


def _echo(call: Any) -> None:
    call.on_message = call.send
    call.on_half_close = call.finish


def _text(event: Any) -> str:
    return str(getattr(event, "headers", ""))
