"""Abuse and broken input: every flood ends its connection with a named cause, with little spent on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire import grpc
from wharf.wire._nghttp2 import SessionError
from wharf.wire.h2 import PREFACE, Step, Vitals
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Code
from wire.pair import STREAM, UNARY, Pair, raw_frame

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ENHANCE_YOUR_CALM = 11
LIMITS = ConnectionLimits(idle_frames_burst=200, idle_frames_per_second=10, resets_burst=20, resets_per_second=1)


def opened(limits: ConnectionLimits = LIMITS, **more: Any) -> Pair:
    """A pair whose connection is up, with one stream open."""
    pair = Pair(limits=limits, **more)
    pair.open(STREAM)
    return pair


def feed_until_refused(pair: Pair, make: Callable[[int], bytes], most: int) -> int:
    """Feed `make(0)`, `make(1)`… until the server ends the connection; how many it took."""
    for count in range(most):
        try:
            pair.server.receive(make(count))
        except SessionError:
            pair.server.pump()
            return count
        pair.server.pump()
        if pair.server.finished:
            return count
    pytest.fail(f"{most} frames were taken")


def goaway_of(pair: Pair) -> tuple[int, bytes]:
    """Error code and debug text of the GOAWAY the server wrote."""
    data = b"".join(pair.written)
    at = 0
    found = (-1, b"")
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        if data[at + 3] == GOAWAY:
            payload = data[at + 9 : at + 9 + length]
            found = (int.from_bytes(payload[4:8], "big"), payload[8:])
        at += 9 + length
    return found


@pytest.mark.parametrize(
    "frame",
    [
        raw_frame(SETTINGS, 0, 0),
        raw_frame(DATA, 0, 1),
        raw_frame(DATA, 8, 1, b"\x03\0\0\0"),
        raw_frame(PING, ACK, 0, bytes(8)),
        raw_frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"),
        raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        raw_frame(0xBB, 0, 0, b"unknown"),
    ],
    ids=["SETTINGS", "empty DATA", "padding alone", "PING acknowledged", "PRIORITY", "WINDOW_UPDATE", "unknown type"],
)
def test_frames_without_work(frame: bytes) -> None:
    pair = opened()
    assert feed_until_refused(pair, lambda _: frame, 300) >= 40
    assert goaway_of(pair) == (ENHANCE_YOUR_CALM, b"frame_flood")


def test_frames_without_work_are_forgiven_with_time_and_work() -> None:
    pair = opened()
    for _ in range(100):
        pair.server.receive(raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100)
        pair.clock.now += 10
        pair.server.pump()
        assert not pair.server.finished


def test_pings_every_five_seconds_are_welcome() -> None:
    pair = opened()
    for count in range(100):
        pair.clock.now += 5
        pair.server.receive(raw_frame(PING, 0, 0, count.to_bytes(8, "big")))
        pair.server.pump()
    assert not pair.server.finished


def test_ping_flood() -> None:
    pair = opened()
    assert feed_until_refused(pair, lambda _: raw_frame(PING, 0, 0, bytes(8)), 10) == 3
    assert goaway_of(pair) == (ENHANCE_YOUR_CALM, b"too_many_pings")


def test_pings_beside_answers_are_forgiven() -> None:
    pair = opened()
    for _ in range(50):
        pair.server.receive(raw_frame(PING, 0, 0, bytes(8)))
        assert pair.call(UNARY, b"").code == Code.OK, "bandwidth probes come with traffic"


def test_rapid_reset() -> None:
    pair = Pair(lambda message, call: None, limits=LIMITS)
    pair.exchange()
    opening = pair.client.request(pair.headers(UNARY), grpc.frame(b""), end=False)
    head = pair.client.pull(1 << 20) or b""
    pair.server.receive(head)
    block = head[9 : 9 + int.from_bytes(head[:3], "big")]

    def burst(count: int) -> bytes:
        stream_id = opening + 2 + 2 * count
        return raw_frame(HEADERS, END_HEADERS, stream_id, block) + raw_frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08")

    assert feed_until_refused(pair, burst, 100) == LIMITS.resets_burst
    assert goaway_of(pair) == (ENHANCE_YOUR_CALM, b"rapid_reset")


def test_cancelling_now_and_then_is_no_flood() -> None:
    pair = Pair(stream=lambda call: None, limits=LIMITS)
    for _ in range(100):
        pair.client.reset(pair.open(STREAM))
        pair.exchange()
        pair.clock.now += 1
    assert not pair.server.finished


def test_streams_that_make_us_reset_them_are_rationed_too() -> None:
    pair = opened()

    def broken(count: int) -> bytes:
        return raw_frame(HEADERS, END_HEADERS, 3 + 2 * count, b"\x82\x82")  # :method twice

    assert feed_until_refused(pair, broken, 100) == LIMITS.resets_burst


def test_continuation_flood() -> None:
    pair = opened()
    pair.server.receive(raw_frame(HEADERS, 0, 3, b"\x82"))
    frame = raw_frame(CONTINUATION, 0, 3, b"\x40\x01a\x01b")
    assert feed_until_refused(pair, lambda _: frame, 20) <= 9


def test_header_list_too_large() -> None:
    pair = opened(ConnectionLimits(header_list_max=2000))
    answer = pair.call(UNARY, b"", extra=((b"bomb", b"x" * 3000),))
    assert (answer.code, answer.text) == (Code.RESOURCE_EXHAUSTED, "the request's metadata is longer than 2000 bytes")
    assert pair.call(UNARY, b"").code == Code.OK


def test_header_list_too_large_before_the_content_type() -> None:
    """Names of a gRPC request may come in any order."""
    pair = opened(ConnectionLimits(header_list_max=2000))
    headers = pair.headers(UNARY)
    at = next(at for at, (name, _) in enumerate(headers) if not name.startswith(b":"))
    answer = pair.call_raw([*headers[:at], (b"bomb", b"x" * 3000), *headers[at:]], grpc.frame(b""))
    assert answer.code == Code.RESOURCE_EXHAUSTED


def test_header_list_too_large_of_a_plain_request() -> None:
    pair = opened(ConnectionLimits(header_list_max=2000))
    headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    assert pair.call_raw([*headers, (b"bomb", b"x" * 3000)], b"").headers[b":status"] == b"431"


@pytest.mark.parametrize("count", [5, 8])
def test_metadata_beyond_64_kib_costs_its_call_only(count: int) -> None:
    pair = opened(ConnectionLimits())
    answer = pair.call(UNARY, b"", extra=tuple((b"x-%d" % at, b"y" * 15_000) for at in range(count)))
    assert answer.code == Code.RESOURCE_EXHAUSTED
    assert not pair.server.finished
    assert len(pair.server.streams) == 1, "the stream that was open goes on"
    assert pair.call(UNARY, b"").code == Code.OK


def test_header_bomb_by_compression() -> None:
    """A kilobyte repeated by one-byte references: the list is bounded however small its frames are."""
    pair = opened(ConnectionLimits(header_list_max=20_000))
    literal = b"\x40\x01a\x7f\xe1\x06" + b"x" * 992  # a: 992 times x, kept in the table
    block = literal + b"\xbe" * 15_000
    pair.server.receive(raw_frame(HEADERS, END_STREAM | END_HEADERS, 3, block))
    pair.server.pump()
    assert pair.server.finished
    assert goaway_of(pair) == (ENHANCE_YOUR_CALM, b"header_list_too_large")


def test_more_streams_than_allowed_are_refused() -> None:
    pair = Pair(stream=lambda call: None, limits=ConnectionLimits(concurrent_streams=3))
    pair.exchange()
    for _ in range(5):
        pair.client.request(pair.headers(STREAM), end=False)
    pair.exchange()
    assert len(pair.server.streams) == 3, "the client's core waits for its turn"


@pytest.mark.parametrize(
    "data",
    [
        raw_frame(DATA, 0, 0, b"x"),
        raw_frame(HEADERS, END_HEADERS, 2, b"\x82"),
        raw_frame(SETTINGS, 0, 1),
        raw_frame(SETTINGS, 0, 0, b"abc"),
        raw_frame(PING, 0, 0, b"abc"),
        raw_frame(WINDOW_UPDATE, 0, 0, bytes(4)),
        raw_frame(RST_STREAM, 0, 99, bytes(4)),
        raw_frame(CONTINUATION, END_HEADERS, 1, b""),
        b"\xff\xff\xff" + raw_frame(DATA, 0, 1)[3:],
        raw_frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff"),
    ],
)
def test_broken_frames_end_the_connection(data: bytes) -> None:
    pair = opened()
    pair.written.clear()
    with contextlib.suppress(SessionError):
        pair.server.receive(data)
    pair.server.pump()
    assert pair.server.finished
    assert goaway_of(pair)[0] > 0
    pair.server.close()


def test_a_bad_preface() -> None:
    pair = Pair()
    with pytest.raises(SessionError):
        pair.server.receive(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=30)
)
@settings(max_examples=300)
def test_any_frames_are_survived(frames: list[tuple[int, int, int, bytes]]) -> None:
    pair = Pair(limits=LIMITS)
    data = PREFACE + raw_frame(SETTINGS, 0, 0) + b"".join(raw_frame(*frame) for frame in frames)
    for at in range(0, len(data), 7):
        try:
            pair.server.receive(data[at : at + 7])
        except SessionError:
            break
        pair.server.pump()
        if pair.server.finished:
            break
    pair.server.close()
    assert pair.server.streams == {}
    assert pair.server.held_bytes == 0


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_message_bytes_are_survived(body: bytes) -> None:
    pair = Pair()
    pair.call_raw(pair.headers(UNARY), body)
    assert pair.call(UNARY, b"x").code == Code.OK


class TestVitals:
    """Silence and age."""

    def look(self, pair: Pair, limits: ConnectionLimits, *ages: float) -> list[Step | None]:
        vitals = Vitals(limits, 0.0)
        return [vitals.look(pair.server, age) for age in ages]

    def test_no_settings(self) -> None:
        assert self.look(Pair(), ConnectionLimits(), 1, 11) == [None, Step.CLOSE_SETTINGS]

    def test_idle(self) -> None:
        pair = Pair()
        pair.exchange()
        limits = ConnectionLimits(idle_timeout=100, keepalive_interval=1000)
        assert self.look(pair, limits, 1, 99, 102) == [None, None, Step.CLOSE_IDLE]

    def test_a_stream_is_no_idleness(self) -> None:
        limits = ConnectionLimits(idle_timeout=100, keepalive_interval=1000)
        assert self.look(opened(), limits, 1, 102) == [None, None]

    def test_keepalive(self) -> None:
        limits = ConnectionLimits(keepalive_interval=100, keepalive_timeout=20)
        assert self.look(opened(), limits, 1, 102, 110, 123) == [None, Step.PING, None, Step.CLOSE_DEAD]

    def test_an_answer_is_life(self) -> None:
        pair = opened()
        vitals = Vitals(ConnectionLimits(keepalive_interval=100, keepalive_timeout=20), 0.0)
        vitals.look(pair.server, 1)
        assert vitals.look(pair.server, 102) is Step.PING
        pair.server.ping(b"12345678")
        pair.exchange()
        assert pair.server.ping_acks == 1
        assert vitals.look(pair.server, 130) is None

    def test_a_header_block_that_does_not_end(self) -> None:
        pair = opened()
        pair.server.receive(raw_frame(HEADERS, 0, 3, b"\x82"))
        assert self.look(pair, ConnectionLimits(), 1, 5, 12) == [None, None, Step.CLOSE_BLOCK]


def test_drain_in_two_steps() -> None:
    calls: list[Any] = []
    pair = Pair(lambda message, call: calls.append(call))
    first = pair.client.request(pair.headers(UNARY), grpc.frame(b""))
    pair.exchange()
    pair.server.announce_shutdown()
    crossing = pair.client.request(pair.headers(UNARY), grpc.frame(b""))  # on its way when the notice goes out
    pair.exchange()
    assert pair.client.goaway_received
    assert len(calls) == 2, "a stream that crossed the notice is served"
    pair.server.refuse_streams()
    pair.exchange()
    for call in calls:
        call.reply(b"")
    pair.exchange()
    assert [pair.answer(item).code for item in (first, crossing)] == [Code.OK, Code.OK]
    assert pair.server.finished, "the last stream ends the connection"
