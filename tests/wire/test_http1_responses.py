"""HTTP/1.1 responses as they are served: framing, ends of either side, back-pressure, draining."""

from __future__ import annotations

import pytest
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Exchange, Headers

from .http1 import Served, echo, say_ok

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


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


def test_last_answer_is_not_destroyed_by_what_the_client_still_sends() -> None:
    """Closed with bytes unread, TCP would reset: the end is said, and the rest read and dropped."""
    served = Served(say_ok)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
    for stream, answer in ((head, CLOSING), (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n")):
        served = Served(say_ok)
        assert served.feed(stream).startswith(answer)
        assert served.port.eof
        assert served.session.terminating
        assert not served.session.finished
        assert served.feed(b"x" * 100_000) == b""
        assert (served.session.held, served.session.finished, served.port.reading) == (0, False, True)
        served.eof()
        assert served.session.finished


def test_patience_with_what_the_client_still_sends_ends() -> None:
    served = Served(say_ok, limits=Http1Limits(linger_max=1000))
    served.feed(b"nonsense\r\n\r\n")
    served.feed(b"x" * 1000)
    assert not served.session.finished
    served.feed(b"x")
    assert served.session.finished


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
