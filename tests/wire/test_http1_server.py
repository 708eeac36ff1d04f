"""HTTP/1.1 as it is served: framing, keep-alive, pipelining, bodies with credit, ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Exchange, Headers

from .http1 import Served, pieces

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


def say_ok(exchange: Exchange) -> None:
    exchange.respond(200, [(b"content-length", b"2")])
    exchange.send(b"ok")
    exchange.finish()


def echo(exchange: Exchange) -> None:
    exchange.respond(200, [(b"x-target", exchange.target)])
    exchange.on_data = exchange.send
    exchange.on_end = exchange.finish
    if not exchange.body_expected:
        exchange.finish()


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
    assert served.session.requests_seen == 3


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


# --- edge 17: responses
def respond(headers: Headers, *, first: bytes = b"GET / HTTP/1.1", status: int = 200, body: bytes = b"hi") -> bytes:
    served = Served()
    served.feed(first + b"\r\nHost: a\r\n\r\n")
    exchange = served.exchange
    exchange.respond(status, headers)
    if body:
        exchange.send(body)
    exchange.finish([(b"x-t", b"1"), (b"content-length", b"7")])
    answer = served.turn()
    assert served.seen[0].completed == 1
    assert served.seen[0].cancelled == 0
    assert exchange.done
    return answer + (b"|closed" if served.closes else b"")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ({}, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n"),
        ({"body": b""}, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-t: 1\r\n\r\n"),
        ({"headers": [(b"content-length", b"2")]}, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
        ({"first": b"GET / HTTP/1.0"}, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi|closed"),
        ({"first": b"HEAD / HTTP/1.1"}, b"HTTP/1.1 200 OK\r\n\r\n"),
        (
            {"first": b"HEAD / HTTP/1.1", "headers": [(b"content-length", b"9")]},
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        ),
        ({"status": 204, "headers": [(b"content-length", b"9")]}, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            {"status": 304, "headers": [(b"content-length", b"9"), (b"etag", b'"1"')]},
            b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\ncontent-length: 9\r\n\r\n',
        ),
        ({"status": 299, "headers": [(b"content-length", b"2")]}, b"HTTP/1.1 299 \r\ncontent-length: 2\r\n\r\nhi"),
        (
            {"headers": [(b"content-length", b"2"), (b"connection", b"close, x")]},
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi|closed",
        ),
        (
            {"headers": [(b"transfer-encoding", b"gzip"), (b"keep-alive", b"timeout=5"), (b"content-length", b"2")]},
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        ),
    ],
)
def test_edge_17_framing_of_responses(words: dict[str, object], answer: bytes) -> None:
    assert respond(**{"headers": [], **words}) == answer  # type: ignore[arg-type]  # a table of keyword arguments


def test_edge_17_repeated_headers_stay_apart_and_none_is_added() -> None:
    headers = [(b"warning", b"299 - a"), (b"warning", b"299 - b"), (b"x", b""), (b"content-length", b"0")]
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, headers, end=True)
    assert (
        served.turn() == b"HTTP/1.1 200 OK\r\nwarning: 299 - a\r\nwarning: 299 - b\r\nx: \r\ncontent-length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"1\r\ny: 2"),
        (b"x", b"1\ny: 2"),
        (b"x", b"1\r"),
        (b"x", b"\0"),
        (b"x y", b"1"),
        (b"x:", b"1"),
        (b"", b"1"),
        (b"content-length", b"+1"),
    ],
)
def test_edge_17_headers_that_split_are_refused_and_another_answer_is_possible(header: tuple[bytes, bytes]) -> None:
    served = Served()
    served.feed(GET)
    with pytest.raises(ValueError, match=r"header|content-length"):
        served.exchange.respond(200, [header])
    assert not served.exchange.responded
    assert served.turn() == b""
    say_ok(served.exchange)
    assert served.turn() == OK


def test_edge_17_trailers_that_split_cut_nothing_out() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [])
    served.turn()
    with pytest.raises(ValueError, match="CR, LF"):
        served.exchange.finish([(b"x", b"1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")])
    assert served.turn() == b""
    served.exchange.abort()
    assert served.port.aborted


def test_differing_lengths_of_a_response_are_refused() -> None:
    served = Served()
    served.feed(GET)
    with pytest.raises(ValueError, match="content-length"):
        served.exchange.respond(200, [(b"content-length", b"1"), (b"content-length", b"2")])
    with pytest.raises(ValueError, match="announces a body"):
        served.exchange.respond(200, [(b"content-length", b"1")], end=True)


@pytest.mark.parametrize("sent", [b"hel", b"hello!"])
def test_response_that_breaks_its_length_cuts_the_connection(sent: bytes) -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [(b"content-length", b"5")])
    served.exchange.send(sent)
    served.exchange.finish()
    served.turn()
    assert served.port.aborted
    assert served.seen[0].completed == 0


def test_a_handler_that_fails_is_answered_for() -> None:
    def fail(exchange: Exchange) -> None:
        raise LookupError("a bug")

    served = Served(fail)
    assert served.feed(GET).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert served.closes


def test_a_handler_that_fails_in_the_middle_cuts_the_connection() -> None:
    def fail(exchange: Exchange) -> None:
        exchange.respond(200, [])
        raise LookupError("a bug")

    served = Served(fail)
    served.feed(GET)
    assert served.port.aborted


def test_a_callback_that_fails_cuts_the_connection_and_the_exchange_is_told() -> None:
    def fail(data: bytes) -> None:
        raise LookupError("a bug")

    served = Served()
    served.feed(POST)
    served.exchange.on_data = fail
    served.feed(b"hello")
    assert served.port.aborted
    served.session.close()
    assert served.seen[0].cancelled == 1


# --- ends
def test_abort_after_respond_sends_no_last_chunk() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [])
    served.exchange.send(b"hi")
    assert served.turn().endswith(b"2\r\nhi\r\n")
    served.exchange.abort()
    assert served.turn() == b""
    assert served.port.aborted
    assert (served.seen[0].cancelled, served.seen[0].completed) == (0, 0)
    assert served.session.open_streams == 0


def test_edge_25_lost_connection_cancels_once() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [])
    served.turn()
    served.session.close(ConnectionResetError())
    served.session.close()
    assert served.seen[0].cancelled == 1
    assert served.exchange.done
    served.exchange.send(b"late")
    served.exchange.finish()
    served.exchange.take(1)
    assert served.turn() == b""


def test_edge_25_end_of_the_client_ends_a_stream_under_way() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [(b"content-type", b"application/json")])
    served.turn()
    served.eof()
    assert served.seen[0].cancelled == 1
    assert served.closes


def test_half_closed_client_still_gets_its_answers() -> None:
    served = Served()
    served.feed(GET + GET)
    assert served.eof() == b""
    for count in (1, 2):
        assert len(served.seen) == count
        say_ok(served.exchange)
        assert served.turn() == OK
    assert served.closes
    assert [seen.cancelled for seen in served.seen] == [0, 0]


def test_half_closed_client_gets_the_rest_of_a_response_by_length() -> None:
    served = Served()
    served.feed(GET)
    served.exchange.respond(200, [(b"content-length", b"2")])
    served.turn()
    served.eof()
    served.exchange.send(b"ok")
    served.exchange.finish()
    assert served.turn() == b"ok"
    assert served.seen[0].completed == 1


def test_end_in_the_middle_of_a_request_cancels() -> None:
    served = Served()
    served.feed(POST + b"hel")
    served.eof()
    assert served.seen[0].cancelled == 1
    assert served.closes


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"\r\n"])
def test_end_between_requests_closes(begun: bytes) -> None:
    served = Served()
    served.feed(begun)
    assert served.eof() == b""
    assert served.closes
    assert served.session.violation is None


def test_answer_before_the_body_keeps_the_connection_if_little_is_left() -> None:
    served = Served(say_ok)
    assert served.feed(POST) == OK
    assert served.feed(b"hello" + GET) == OK
    assert len(served.seen) == 2
    assert served.seen[0].body == b""


def test_answer_before_a_long_body_closes() -> None:
    served = Served(say_ok)
    answer = served.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
    assert answer == CLOSING
    assert served.closes


def test_answer_before_an_endless_chunked_body_closes_at_a_bound() -> None:
    served = Served(say_ok, limits=Http1Limits(discard_max=1000))
    assert served.feed(CHUNKED) == OK
    for _ in range(20):
        served.feed(b"64\r\n" + b"x" * 100 + b"\r\n")
    assert served.closes


# --- back-pressure
def test_transport_that_takes_nothing_makes_the_exchange_wait() -> None:
    limits = Http1Limits(write_high=1000, write_low=100)
    served = Served(limits=limits)
    served.feed(GET)
    exchange = served.exchange
    served.session.paused = True
    exchange.respond(200, [])
    assert served.turn() == b""
    assert not exchange.writable
    exchange.send(b"x" * 2000)
    assert exchange.buffered > 2000
    assert served.seen[0].drained == 0
    served.session.paused = False
    served.session.pump()
    assert len(served.turn()) > 2000
    assert served.seen[0].drained == 1
    assert exchange.buffered == 0
    assert exchange.writable
    exchange.finish()
    served.turn()
    assert served.seen[0].completed == 1


def test_completion_waits_for_the_transport() -> None:
    served = Served()
    served.feed(GET)
    served.session.paused = True
    say_ok(served.exchange)
    served.turn()
    assert served.seen[0].completed == 0
    served.session.close()
    assert served.seen[0].cancelled == 1


def test_a_large_chunk_of_output_counts_as_crowded() -> None:
    served = Served(limits=Http1Limits(write_high=10))
    served.feed(GET)
    served.exchange.respond(200, [])
    served.exchange.send(b"x" * 20)
    assert not served.exchange.writable
    served.turn()
    assert served.seen[0].drained == 1


# --- draining
def test_edge_36_drain_closes_after_the_present_response() -> None:
    served = Served()
    served.feed(GET)
    served.session.announce_shutdown()
    say_ok(served.exchange)
    assert served.turn() == CLOSING
    assert served.closes


def test_edge_36_idle_connection_serves_until_it_is_refused() -> None:
    served = Served(say_ok)
    served.session.announce_shutdown()
    assert not served.closes
    served.session.refuse_streams()
    assert served.closes


def test_edge_36_refused_with_an_exchange_ends_with_it() -> None:
    served = Served()
    served.feed(GET + GET)
    served.session.refuse_streams()
    assert not served.closes
    say_ok(served.exchange)
    assert served.turn() == CLOSING
    assert len(served.seen) == 1


def test_a_response_has_one_head_and_begins_with_it() -> None:
    served = Served()
    served.feed(GET)
    with pytest.raises(RuntimeError):
        served.exchange.finish()
    served.exchange.respond(200, [])
    with pytest.raises(RuntimeError):
        served.exchange.respond(200, [])
    with pytest.raises(RuntimeError):
        served.exchange.upgrade([])


def test_bytes_are_counted() -> None:
    served = Served(echo, listen=False)
    answer = served.feed(POST + b"hello")
    assert served.session.bytes_in == len(POST) + 5
    assert served.session.bytes_out == len(answer)
    assert (served.exchange.bytes_in, served.exchange.bytes_out) == (5, 5)
