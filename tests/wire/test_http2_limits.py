"""HTTP/2 for proxies under abuse: slow readers, floods, cancelled streams by the thousand, bytes of strangers."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire._nghttp2 import SessionError
from wharf.wire.h2 import PREFACE
from wharf.wire.limits import ClientLimits, ConnectionLimits
from wharf.wire.web import Fault
from wharf.wire.web_h2 import (
    HeaderFilter,
    HttpServerStream,
    open_client_session,
    open_server_session,
)
from wire.pair import raw_frame
from wire.test_http2_server import Served, answer
from wire.web_pair import Chain, Connection, Link, Seen, pass_on

HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 1, 3, 4, 6, 8
END_STREAM, END_HEADERS = 1, 4
GET = b"\x82\x87\x84\x41\x01h"  # GET https://h/
WINDOW = 65536
MIB = 1 << 20


def endless(exchange: HttpServerStream) -> None:
    """A response that is as long as its reader likes."""
    exchange.respond(200, [])
    exchange.send(bytes(4 * MIB))


def test_edge_26_held_bytes_are_bounded_by_cutting_off_the_slowest(caplog: pytest.LogCaptureFixture) -> None:
    limits = ClientLimits(stream_window=WINDOW, connection_window=WINDOW, held_max=10 * WINDOW)
    link = Link(endless, client_limits=limits)
    slow = []
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            slow.append(link.ask(take=False))
            assert link.client.held_bytes <= limits.held_max
    cut = [one for one in slow if one.failure is not None]
    assert len(cut) == link.client.shed_streams == len(caplog.records) >= 20
    assert {one.failure.fault for one in cut if one.failure} == {Fault.TIMEOUT}
    assert link.client.open_requests == 30 - len(cut)
    assert len(link.ask().body) == 4 * MIB, "a neighbour never waits for them"


def test_a_coupled_reader_that_is_cut_off_is_aborted_even_on_a_watch(caplog: pytest.LogCaptureFixture) -> None:
    limits = ClientLimits(stream_window=WINDOW, connection_window=WINDOW, held_max=4 * WINDOW)
    chain = Chain(endless, back_limits=limits, clean_end=True)
    with caplog.at_level(logging.WARNING):
        seen = [Seen(chain.front.client.request(b"GET", b"/pods?token=secret", b"h", []), take=False) for _ in range(8)]
        chain.run()
    cut = [one for one in seen if one.failure is not None]
    assert chain.back.client.shed_streams == len(cut) >= 4
    assert all(one.failure and one.failure.fault is Fault.RESET for one in cut), "never a clean end"
    assert chain.back.client.held_bytes <= limits.held_max
    assert len(chain.told) == len(cut)
    assert "secret" not in caplog.text
    assert "/pods" in caplog.text


def test_edge_26_a_reader_that_stands_still_is_dropped_after_a_while() -> None:
    chain = Chain(endless)
    stuck, slow = (Seen(chain.front.client.request(b"GET", b"/", b"h", []), take=False) for _ in range(2))
    chain.run()
    front = chain.front.server
    dropped = 0
    for now in range(1000, 1100):
        dropped += front.drop_stalled(now, 60)
        slow.request.take(WINDOW // 4)
        chain.run()
        assert dropped == (1 if now > 1060 else 0)
    assert stuck.failure is not None
    assert slow.failure is None
    assert chain.told == [("cancel", None)]
    assert chain.back.client.open_requests == 1
    idle = Link(lambda exchange: exchange.respond(200, []))
    quiet = idle.ask()
    assert idle.server.drop_stalled(0, 60) == idle.server.drop_stalled(1e9, 60) == 0
    assert quiet.failure is None


def test_uploads_nobody_reads_are_bounded_by_the_windows() -> None:
    limits = ConnectionLimits(stream_window=WINDOW, connection_window=4 * WINDOW, held_max=4 * WINDOW)
    link = Link(lambda exchange: None, limits=limits)
    for _ in range(50):
        link.client.request(b"PUT", b"/", b"h", [], end=False).send(bytes(WINDOW))
    link.run()
    assert link.server.held_bytes <= 8 * WINDOW
    for stream in list(link.client.streams.values()):
        stream.reset()
    link.run()
    assert link.server.held_bytes == link.server.open_streams == 0


@pytest.mark.parametrize("step", ["at once", "after the head", "with bytes queued"])
def test_edge_25_ten_thousand_cancelled_streams_leave_nothing(step: str) -> None:
    alive: list[weakref.ref[object]] = []

    class Mark:
        """Something a handler's callbacks keep."""

        def __call__(self) -> None: ...

    def origin(exchange: HttpServerStream) -> None:
        if step != "at once":
            exchange.respond(200, [])
        if step == "with bytes queued":
            exchange.send(bytes(1000))

    def proxy(chain: Chain, exchange: HttpServerStream) -> None:
        mark = Mark()
        alive.append(weakref.ref(mark))
        pass_on(chain, exchange)
        exchange.context = mark
        exchange.on_drain = mark

    limits = ConnectionLimits(resets_burst=20_000)
    chain = Chain(origin, proxy=proxy, front_limits=limits, origin_limits=limits)
    for _ in range(20):
        seen = [Seen(chain.front.client.request(b"GET", b"/", b"h", [])) for _ in range(500)]
        if step != "at once":
            chain.run()
            assert seen[-1].status == 200
        else:
            chain.front.run()
        for one in seen:
            one.request.reset()
        chain.run()
        chain.exchanges.clear()
        chain.upstreams.clear()
    del seen
    for link in (chain.front, chain.back):
        for session in (link.client, link.server):
            assert session.streams == {}
            assert session.held_bytes == session.unsent == 0
    gc.collect()
    assert len(alive) == 10_000
    assert not any(one() is not None for one in alive)


def test_rapid_reset_ends_the_connection_and_costs_the_upstream_nothing() -> None:
    upstream: list[HttpServerStream] = []
    limits = ConnectionLimits(resets_burst=50, resets_per_second=1)
    chain = Chain(upstream.append, front_limits=limits)
    server = chain.front.server
    for at in range(200):
        stream_id = 1 + 2 * at
        frames = raw_frame(HEADERS, END_HEADERS | END_STREAM, stream_id, GET)
        server.receive(frames + raw_frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08"))
        server.pump()
        if server.terminating:
            break
    assert at == 50
    assert server.violation == "too many streams reset"
    chain.back.run()
    assert upstream == [], "what was cancelled in the same read never left"


def test_a_flooding_upstream_is_given_up() -> None:
    client = open_client_session(ClientLimits(idle_frames_burst=100, idle_frames_per_second=1), lambda: 0.0)
    client.receive(raw_frame(SETTINGS, 0, 0))
    request = Seen(client.request(b"GET", b"/", b"h", []))
    for _ in range(300):
        client.receive(raw_frame(PING, 0, 0, bytes(8)))
        if client.terminating:
            break
    client.pump()
    assert client.violation == "too many frames that carry no work"
    assert client.capacity == 0
    client.close()
    assert request.failure is not None


def test_a_header_bomb_ends_the_connection() -> None:
    server = open_server_session(
        lambda exchange: None, Connection(), ConnectionLimits(header_list_max=4000), lambda: 0.0
    )
    server.receive(PREFACE + raw_frame(SETTINGS, 0, 0))
    value = b"\x40\x01a\x7f\xa1\x1e" + bytes(b"x" * 4000)  # indexed: each later byte names it again
    block = GET + value + b"\xbe" * 1000
    assert len(block) < 16384
    server.receive(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    server.pump()
    assert server.violation == "a header list beyond all measure"


_FRAME = st.builds(
    raw_frame,
    st.integers(0, 10),
    st.integers(0, 63),
    st.sampled_from([0, 1, 2, 3, 5, 7]),
    st.one_of(st.binary(max_size=40), st.sampled_from([GET, b"\x88", b"\0\0\0\x08", b"\x88\x00\x01a\x01b", bytes(8)])),
)


@given(st.lists(_FRAME, max_size=30), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_any_frames_from_a_client(frames: list[bytes], piece: int) -> None:
    chain = Chain(endless)
    server = chain.front.server = open_server_session(
        lambda exchange: pass_on(chain, exchange), Connection(), ConnectionLimits(), lambda: 0.0
    )
    server.write, server.paused = lambda data: None, False
    _feed(server, PREFACE + raw_frame(SETTINGS, 0, 0) + b"".join(frames), piece, chain.back)
    server.close()
    chain.back.run()
    assert server.held_bytes == 0
    assert server.failure is None
    assert chain.back.client.streams == {}


@given(st.lists(_FRAME, max_size=30), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_any_frames_from_an_upstream(frames: list[bytes], piece: int) -> None:
    front = Link(lambda exchange: None)
    client = open_client_session(ClientLimits(), lambda: 0.0)
    client.write, client.paused = lambda data: None, False
    client.receive(raw_frame(SETTINGS, 0, 0))
    seen = Seen(client.request(b"GET", b"/", b"h", []))
    coupled = [Seen(front.client.request(b"GET", b"/", b"h", []))]
    front.run()
    stream = front.server.streams[1]
    assert isinstance(stream, HttpServerStream)
    through = client.forward(stream, HeaderFilter())
    through.couple(stream, HeaderFilter())
    client.pump()
    _feed(client, b"".join(frames), piece, front)
    client.close()
    front.run()
    assert client.held_bytes == 0
    assert client.failure is None
    assert seen.ended or seen.failure is not None
    assert through.done
    assert stream.done or not stream.responded, (coupled[0].status, stream.responded)


def _feed(session: object, data: bytes, piece: int, other: Link) -> None:
    for at in range(0, len(data), piece):
        try:
            session.receive(data[at : at + piece])  # type: ignore[attr-defined]
        except SessionError:
            break
        session.pump()  # type: ignore[attr-defined]
        other.run()


def test_the_longest_stall_timeout_of_the_exchanges_under_way_is_the_connections() -> None:
    """Requests for several clusters may share a connection, and the last of them does not decide for the others."""
    served = Served()
    assert served.server.stall_timeout(60) == 60
    served.ask()
    served.ask()
    first, second = served.exchanges
    first.reader_timeout, second.reader_timeout = 300, 1
    assert (first.reader_timeout, second.reader_timeout) == (300, 1)
    assert served.server.stall_timeout(60) == 300
    answer(first)
    served.run()
    assert served.server.stall_timeout(60) == 1
    answer(second)
    served.run()
    assert served.server.stall_timeout(60) == 1, "what is left of it has its time"
    served.ask()
    assert served.server.stall_timeout(60) == 60
