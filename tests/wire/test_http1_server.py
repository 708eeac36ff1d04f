"""HTTP/1.1 as it is served: framing, keep-alive, pipelining, bodies with credit, ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits

from .http1 import Served, echo, pieces, say_ok

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


# --- requests
def test_edge_15_raw_path_and_query_pass_byte_for_byte() -> None:
    target = b'/a%2Fb//c;d/%20+/?a=&a=&b=%zz&c=%C3%A9\xc3\xa9&=&&"<>\\^`{|}'
    served = Served(say_ok)
    served.feed(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert served.exchange.target == target


def test_request_fields() -> None:
    served = Served()
    served.feed(b"PATCH /x HTTP/1.1\r\nHost: A:6443\r\nX: 1\r\nx:  2 \t\r\nEmpty:\r\nContent-Length: 5\r\n\r\n")
    exchange = served.exchange
    assert exchange.method == b"PATCH"
    assert exchange.authority == b"A:6443"
    assert exchange.headers == [
        (b"host", b"A:6443"),
        (b"x", b"1"),
        (b"x", b"2"),
        (b"empty", b""),
        (b"content-length", b"5"),
    ]
    assert exchange.header(b"x") == b"1"
    assert exchange.header(b"y") is None
    assert exchange.content_length == 5
    assert exchange.body_expected
    assert exchange.connection.local_address == "127.0.0.1:6443"


@pytest.mark.parametrize(
    ("line", "target", "authority"),
    [
        (b"GET http://a/x?y HTTP/1.1\r\nHost: A", b"/x?y", b"a"),
        (b"GET HTTP://a HTTP/1.1\r\nHost: a", b"/", b"a"),
        (b"GET http://a:80?x HTTP/1.1\r\nHost: a:80", b"/?x", b"a:80"),
        (b"GET https://a/ HTTP/1.0\r\nX: y", b"/", b"a"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a", b"*", b"a"),
        (b"GET / HTTP/1.0\r\nX: y", b"/", b""),
        (b"GET / HTTP/1.1\r\nHost:", b"/", b""),
        (b"GET / HTTP/1.1\r\nHost: [::1]:443", b"/", b"[::1]:443"),
        (b"\r\nGET / HTTP/1.1\r\nHost: a", b"/", b"a"),
    ],
)
def test_targets_and_authorities(line: bytes, target: bytes, authority: bytes) -> None:
    served = Served(say_ok)
    served.feed(line + b"\r\n\r\n")
    assert (served.exchange.target, served.exchange.authority) == (target, authority)


# --- edge 13: keep-alive, pipelining, chunked bodies
def test_edge_13_keep_alive() -> None:
    served = Served(say_ok)
    for _ in range(3):
        assert served.feed(GET) == OK
    assert not served.closes
    assert [seen.completed for seen in served.seen] == [1, 1, 1]


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: X , CLOSE\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_edge_13_keep_alive_by_version(version: bytes, connection: bytes, kept: bool) -> None:
    served = Served(say_ok)
    answer = served.feed(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n")
    assert served.closes is not kept
    assert (b"connection: close" in answer) is not kept
    assert (b"connection: keep-alive" in answer) is (kept and version == b"1.0")


def test_edge_13_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    served = Served()
    assert served.feed(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))) == b""
    for number in range(3):
        assert len(served.seen) == number + 1
        assert served.exchange.target == b"/%d" % number
        say_ok(served.exchange)
        assert served.turn() == OK
    assert not served.closes


def test_edge_13_pipelined_bytes_are_bounded_by_a_pause() -> None:
    limits = Http1Limits(head_max=1000)
    served = Served(limits=limits)
    served.feed(GET)
    for _ in range(100):
        if not served.port.reading:
            break
        served.feed(GET)
    assert not served.port.reading
    assert served.session.held <= limits.head_max + len(GET)
    waiting = served.session.held // len(GET)
    for _ in range(waiting):
        say_ok(served.exchange)
        assert served.turn() == OK
    assert served.port.reading


def test_pipelined_requests_leave_others_their_turn() -> None:
    served = Served(say_ok)
    served.session.receive(GET * 100)
    served.session.pump()
    assert 0 < len(served.seen) < 100
    served.turn()
    assert len(served.seen) == 100
    assert served.session.held == 0


def test_edge_13_pipelined_requests_behind_a_close_are_not_served() -> None:
    served = Served(say_ok)
    assert served.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET) == CLOSING
    assert len(served.seen) == 1
    assert served.closes


def test_edge_13_chunked_request_body_with_trailers() -> None:
    served = Served()
    served.feed(CHUNKED + b"5;ext=1;x\r\nhello\r\n000A\r\n, world..!\r\n0;last\r\nX-T: 1\r\nx-t:2 \r\n\r\n" + GET)
    assert served.seen[0].body == b"hello, world..!"
    assert served.seen[0].trailers == [(b"x-t", b"1"), (b"x-t", b"2")]
    assert served.exchange.content_length is None
    assert served.exchange.bytes_in == 15
    say_ok(served.exchange)
    assert served.turn() == OK
    assert len(served.seen) == 2


def test_edge_16_body_with_a_length_passes_as_it_is() -> None:
    body = bytes(range(256)) * 40
    served = Served()
    served.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:1000])
    assert served.seen[0].body == body[:1000]
    assert served.seen[0].trailers is None
    served.feed(body[1000:])
    assert served.seen[0].body == body
    assert served.seen[0].trailers == []


@given(st.lists(st.integers(0, 400), max_size=12))
def test_however_the_bytes_arrive(cuts: list[int]) -> None:
    stream = CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n" + POST + b"12345" + GET
    served = Served(echo, listen=False)
    answer = b"".join(served.feed(piece) for piece in pieces(stream, cuts))
    heads = [b"HTTP/1.1 200 OK\r\nx-target: /\r\ntransfer-encoding: chunked\r\n\r\n"] * 3
    bodies = []
    for part in answer.split(heads[0])[1:]:
        rest, body = part, b""
        while not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        bodies.append((body, rest))
    assert bodies == [(b"hello!", b"0\r\nt: 1\r\n\r\n"), (b"12345", b"0\r\n\r\n"), (b"", b"0\r\n\r\n")]


# --- credit
def test_body_waits_for_its_reader() -> None:
    served = Served(listen=False)
    served.feed(POST + b"hello")
    body: list[bytes] = []
    served.exchange.on_data = body.append
    served.turn()
    assert body == [b"hello"]


def test_body_nobody_takes_pauses_reading() -> None:
    limits = Http1Limits(head_max=1000, body_held_max=10_000)
    served = Served(limits=limits, take=False)
    served.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    fed = 0
    while served.port.reading:
        served.feed(b"x" * 700)
        fed += 700
        assert fed < 20_000
    assert len(served.seen[0].body) <= limits.body_held_max + 700
    assert served.session.held <= limits.head_max + 700
    served.exchange.take(len(served.seen[0].body))
    served.turn()
    assert served.port.reading
    assert len(served.seen[0].body) == fed
    assert served.exchange.bytes_in == fed


# --- edge 16: Expect
EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"


def test_edge_16_expect_continue_is_answered_by_the_handler() -> None:
    served = Served()
    assert served.feed(EXPECT) == b""
    served.exchange.inform(100, ())
    assert served.turn() == b"HTTP/1.1 100 Continue\r\n\r\n"
    served.feed(b"hello")
    assert served.seen[0].body == b"hello"
    say_ok(served.exchange)
    assert served.turn() == OK
    assert not served.closes


def test_edge_16_final_answer_instead_of_continue_closes() -> None:
    served = Served(say_ok)
    assert served.feed(EXPECT) == CLOSING
    assert served.closes


def test_edge_16_body_that_came_unasked_keeps_the_connection() -> None:
    served = Served()
    served.feed(EXPECT + b"hello")
    say_ok(served.exchange)
    assert served.turn() == OK
    assert not served.closes


def test_informs() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.inform(103, [(b"link", b"</a>"), (b"connection", b"x")])
    assert served.turn() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    old = Served()
    old.feed(b"GET / HTTP/1.0\r\n\r\n")
    old.exchange.inform(103, [(b"link", b"</a>")])
    assert old.turn() == b""  # HTTP/1.0 has none
