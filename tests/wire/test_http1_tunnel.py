"""Upgrades over HTTP/1.1: no byte lost around 101, both directions with their own end, other answers as they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Tunnel

from .http1 import Asked, Served, pieces

UPGRADE = (
    b"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n"
GRANTED = [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")]


@dataclass
class Heard:
    """What came out of a tunnel."""

    tunnel: Tunnel
    data: bytearray = field(default_factory=bytearray)
    eofs: int = 0
    drained: int = 0
    closed: list[Exception | None] = field(default_factory=list)

    def listen(self) -> Heard:
        def on_data(data: bytes) -> None:
            assert not self.eofs
            self.data += data

        def on_eof() -> None:
            self.eofs += 1

        def on_drain() -> None:
            self.drained += 1

        self.tunnel.on_eof, self.tunnel.on_drain, self.tunnel.on_closed = on_eof, on_drain, self.closed.append
        self.tunnel.on_data = on_data
        return self


def served_tunnel(behind: bytes = b"", *, limits: Http1Limits | None = None) -> tuple[Served, Heard]:
    served = Served(limits=limits)
    served.feed(UPGRADE + behind)
    heard = Heard(served.exchange.upgrade(GRANTED))
    assert served.turn() == SWITCHED
    return served, heard


def asked_tunnel(behind: bytes = b"") -> tuple[Asked, Heard]:
    asked = Asked()
    got = asked.upgrade()
    asked.turn()
    asked.feed(SWITCHED + behind)
    assert got.tunnel is not None
    return asked, Heard(got.tunnel)


# --- whether
@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive , UpGrade\r\nUpgrade: websocket\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n", False),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            False,
        ),
    ],
)
def test_what_asks_for_an_upgrade(head: bytes, wanted: bool) -> None:
    served = Served()
    served.feed(head)
    assert served.exchange.wants_upgrade is wanted


# --- edge 30 to 33
def test_edge_31_repeated_protocol_versions_stay_separate_lines_in_order() -> None:
    served = Served()
    served.feed(UPGRADE)
    versions = [header for header in served.exchange.headers if header[0] == b"x-stream-protocol-version"]
    assert versions == [
        (b"x-stream-protocol-version", b"v4.channel.k8s.io"),
        (b"x-stream-protocol-version", b"v3.channel.k8s.io"),
    ]
    asked = Asked()
    got = asked.upgrade([*versions, (b"upgrade", b"SPDY/3.1")])
    out = asked.turn()
    assert out == (
        b"POST /exec HTTP/1.1\r\nhost: api.example\r\n"
        b"x-stream-protocol-version: v4.channel.k8s.io\r\nx-stream-protocol-version: v3.channel.k8s.io\r\n"
        b"Upgrade: SPDY/3.1\r\ncontent-length: 0\r\nConnection: Upgrade\r\n\r\n"
    )
    asked.feed(b"HTTP/1.1 101 Switching Protocols\r\nX: 1\r\nUpgrade: SPDY/3.1\r\nX: 2\r\nConnection: Upgrade\r\n\r\n")
    assert got.headers == [(b"x", b"1"), (b"upgrade", b"SPDY/3.1"), (b"x", b"2"), (b"connection", b"Upgrade")]
    served.exchange.upgrade(got.headers)
    assert served.turn() == (
        b"HTTP/1.1 101 Switching Protocols\r\nx: 1\r\nUpgrade: SPDY/3.1\r\nx: 2\r\nConnection: Upgrade\r\n\r\n"
    )


@given(st.lists(st.integers(0, 400), max_size=8))
def test_edge_32_no_byte_behind_a_head_is_lost(cuts: list[int]) -> None:
    early = bytes(range(256))
    served = Served()
    for piece in pieces(UPGRADE + early, cuts):
        served.feed(piece)
    heard = Heard(served.exchange.upgrade(GRANTED)).listen()
    served.turn()
    assert heard.data == early
    asked = Asked()
    got = asked.upgrade()
    asked.turn()
    for piece in pieces(SWITCHED + early, cuts):
        asked.feed(piece)
    assert got.tunnel is not None
    heard = Heard(got.tunnel).listen()
    asked.turn()
    assert heard.data == early


def test_edge_32_bytes_wait_for_a_listener_and_reading_pauses() -> None:
    served, heard = served_tunnel(limits=Http1Limits(head_max=1000))
    fed = 0
    while served.port.reading:
        served.feed(b"x" * 300)
        fed += 300
        assert fed < 5000
    heard.listen()
    served.turn()
    assert len(heard.data) == fed
    assert served.port.reading


def test_edge_32_half_close_from_the_peer_leaves_writing_open() -> None:
    for connection, heard in (served_tunnel(), asked_tunnel()):
        heard.listen()
        connection.feed(b"last")
        connection.eof()
        assert (bytes(heard.data), heard.eofs) == (b"last", 1)
        heard.tunnel.write(b"still")
        assert connection.turn() == b"still"
        assert not connection.closes
        heard.tunnel.write(b"bye")
        heard.tunnel.write_eof()
        assert connection.turn() == b"bye"
        assert connection.port.eof
        assert connection.port.closed  # both directions are over
        connection.session.close()
        assert heard.closed == [None]


def test_edge_32_half_close_to_the_peer_leaves_reading_open() -> None:
    for connection, heard in (served_tunnel(), asked_tunnel()):
        heard.listen()
        heard.tunnel.write(b"all")
        heard.tunnel.write_eof()
        heard.tunnel.write(b"ignored")
        assert connection.turn() == b"all"
        assert connection.port.eof
        assert not connection.port.closed
        assert not heard.tunnel.writable
        connection.feed(b"answer")
        assert heard.data == b"answer"
        connection.eof()
        assert heard.eofs == 1
        assert connection.port.closed


def test_edge_32_end_of_the_peer_comes_behind_its_bytes() -> None:
    served, heard = served_tunnel(b"early")
    served.eof()
    heard.listen()
    served.turn()
    assert (bytes(heard.data), heard.eofs) == (b"early", 1)


def test_end_is_said_behind_what_the_transport_does_not_take() -> None:
    served, heard = served_tunnel()
    heard.listen()
    served.session.paused = True
    heard.tunnel.write(b"x")
    heard.tunnel.write_eof()
    assert served.turn() == b""
    assert not served.port.eof
    assert heard.tunnel.buffered == 1
    served.session.paused = False
    served.session.pump()
    assert served.turn() == b"x"
    assert served.port.eof


def test_tunnel_pauses_reading() -> None:
    served, heard = served_tunnel()
    heard.listen()
    heard.tunnel.pause_reading()
    served.turn()
    assert not served.port.reading
    served.feed(b"was on its way")
    assert heard.data == b""
    heard.tunnel.resume_reading()
    served.turn()
    assert served.port.reading
    assert heard.data == b"was on its way"


def test_tunnel_tells_when_the_transport_takes_bytes_again() -> None:
    served, heard = served_tunnel()
    heard.listen()
    served.session.paused = True
    assert not heard.tunnel.writable
    heard.tunnel.write(b"x" * 10)
    served.port.unsent = 7
    assert heard.tunnel.buffered == 17
    served.session.paused = False
    served.session.pump()
    assert heard.drained == 1
    assert heard.tunnel.writable
    assert served.turn() == b"x" * 10


def test_close_lets_what_was_written_out() -> None:
    served, heard = served_tunnel()
    heard.listen()
    heard.tunnel.write(b"x")
    heard.tunnel.close()
    heard.tunnel.write(b"ignored")
    assert served.turn() == b"x"
    assert served.port.closed
    assert served.session.terminating
    assert served.feed(b"late") == b""
    assert heard.data == b""
    served.session.close()
    assert heard.closed == [None]


def test_edge_32_bytes_a_lost_connection_brought_are_still_handed_out() -> None:
    for connection, heard in (served_tunnel(), asked_tunnel()):
        heard.listen()
        heard.tunnel.pause_reading()
        connection.feed(b"last words")
        connection.eof()
        connection.session.close()
        assert (bytes(heard.data), heard.eofs, heard.closed) == (b"", 0, [])
        assert not heard.tunnel.writable
        heard.tunnel.write(b"ignored")
        heard.tunnel.resume_reading()
        assert connection.turn() == b""
        assert (bytes(heard.data), heard.eofs, heard.closed) == (b"last words", 1, [None])


@pytest.mark.parametrize("end", ["abort", "close"])
def test_bytes_of_a_lost_connection_nobody_wants(end: str) -> None:
    served, heard = served_tunnel()
    heard.listen()
    heard.tunnel.pause_reading()
    served.feed(b"last words")
    error = ConnectionResetError()
    served.session.close(error)
    getattr(heard.tunnel, end)()
    served.turn()
    assert heard.closed == [error]
    assert heard.data == b""


def test_abort_drops_the_connection() -> None:
    served, heard = served_tunnel()
    heard.listen()
    heard.tunnel.write(b"x")
    heard.tunnel.abort()
    assert served.turn() == b""
    assert served.port.aborted
    error = ConnectionResetError()
    served.session.close(error)
    served.session.close(error)
    assert heard.closed == [error]
    heard.tunnel.write(b"late")
    heard.tunnel.write_eof()
    heard.tunnel.close()
    heard.tunnel.abort()
    assert served.turn() == b""


def test_an_exchange_that_became_a_tunnel_is_done_and_silent() -> None:
    served, heard = served_tunnel()
    assert served.exchange.done
    assert served.session.open_streams == 1
    served.session.announce_shutdown()
    served.session.refuse_streams()
    assert not served.closes
    served.session.close()
    assert (served.seen[0].cancelled, served.seen[0].completed) == (0, 0)
    assert served.session.open_streams == 0
    assert heard.tunnel.buffered == 0


def test_upgrade_nobody_listens_to_is_dropped() -> None:
    asked = Asked()
    got = asked.upgrade()
    got.request.on_upgrade = None
    asked.turn()
    asked.feed(SWITCHED)
    assert asked.port.aborted


REJECTED = [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 34\r\n\r\nunable to upgrade: no such protocol",
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\nwhy",
]


@pytest.mark.parametrize("answer", REJECTED)
def test_edge_33_other_answers_than_101_come_as_they_are(answer: bytes) -> None:
    asked = Asked()
    got = asked.upgrade()
    asked.turn()
    asked.feed(answer[:-1])
    assert got.trailers is None or got.status == 400
    asked.feed(answer[-1:])
    asked.eof()
    assert got.tunnel is None
    assert got.status == int(answer[9:12])
    assert got.trailers == []
    assert bytes(got.body) in answer or got.body == b"{}"


def test_edge_33_rejected_upgrade_leaves_the_connections_in_use() -> None:
    served = Served()
    served.feed(UPGRADE)
    served.exchange.respond(403, [(b"content-length", b"2")])
    served.exchange.send(b"no")
    served.exchange.finish()
    assert served.turn() == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
    assert not served.closes
    served.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(served.seen) == 2
    asked = Asked()
    asked.upgrade()
    asked.turn()
    asked.feed(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert asked.session.capacity == 1


def test_edge_33_bytes_sent_for_a_tunnel_are_never_read_as_a_request() -> None:
    served = Served()
    served.feed(UPGRADE + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    served.exchange.respond(403, [(b"content-length", b"0")], end=True)
    served.turn()
    assert len(served.seen) == 1
    assert served.closes


def test_edge_30_get_and_post_upgrade_alike() -> None:
    for method in (b"GET", b"POST"):
        asked = Asked()
        got = asked.upgrade(
            [(b"upgrade", b"websocket"), (b"sec-websocket-protocol", b"v5.channel.k8s.io")], method=method
        )
        out = asked.turn()
        assert out.startswith(method + b" /exec HTTP/1.1\r\n")
        assert b"\r\nUpgrade: websocket\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n" in out
        asked.feed(SWITCHED[:-2] + b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n")
        assert got.tunnel is not None
        assert got.headers[-1] == (b"sec-websocket-protocol", b"v5.channel.k8s.io")


def test_upgrade_answer_in_one_packet_with_a_body_of_another_answer() -> None:
    asked, heard = asked_tunnel(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    heard.listen()
    asked.turn()
    assert heard.data == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_lost_connection_while_an_upgrade_is_asked_for() -> None:
    asked = Asked()
    got = asked.upgrade()
    asked.turn()
    asked.session.close(ConnectionResetError("reset"))
    assert len(got.failures) == 1
    assert got.tunnel is None
