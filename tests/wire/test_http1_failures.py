"""HTTP/1.1 requests that end early, responses nobody takes, upstreams that take nothing: what is said of each."""

from __future__ import annotations

import pytest
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Fault

from .http1 import Asked

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# --- ends
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_edge_24_end_before_the_end_of_a_response_is_a_loss(sent: bytes) -> None:
    for lost in (False, True):
        asked = Asked()
        got = asked.get()
        asked.turn()
        asked.feed(sent)
        if lost:
            asked.session.close(ConnectionResetError("reset"))
        else:
            asked.eof()
        assert [failure.fault for failure in got.failures] == [Fault.LOST]
        assert got.trailers is None
        assert asked.closes


def test_edge_29_request_that_was_not_written_may_be_repeated() -> None:
    asked = Asked()
    got = asked.get()
    asked.session.close()
    assert [failure.fault for failure in got.failures] == [Fault.REFUSED]
    asked = Asked()
    got = asked.get()
    asked.session.paused = True
    asked.eof()
    assert [failure.fault for failure in got.failures] == [Fault.REFUSED]
    assert asked.closes


def test_idle_connection_that_ends_is_over_and_nobody_failed() -> None:
    asked = Asked()
    asked.eof()
    assert asked.session.capacity == 0
    assert asked.closes
    assert asked.session.violation is None


def test_reset_cuts_the_connection_silently() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    got.request.reset()
    asked.turn()
    assert asked.port.aborted
    asked.session.close()
    assert got.failures == []
    assert got.trailers is None
    assert got.request.done


def test_reset_of_a_request_that_was_not_written_keeps_the_connection() -> None:
    asked = Asked()
    got = asked.get()
    got.request.reset()
    assert asked.turn() == b""
    assert got.request.done
    assert asked.session.capacity == 1
    again = asked.get(b"/again")
    assert asked.turn().startswith(b"GET /again ")
    asked.feed(OK)
    assert again.body == b"ok"


def test_answer_before_the_request_was_sent_whole_ends_the_connection() -> None:
    asked = Asked()
    got = asked.post()
    asked.turn()
    got.request.send(b"hello")
    asked.feed(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert got.status == 413
    assert got.trailers == []
    assert got.request.done
    got.request.send(b"more")
    got.request.finish()
    asked.turn()
    assert asked.session.capacity == 0
    assert asked.closes


def test_reset_inside_a_callback() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    got.request.on_data = lambda data: got.request.reset()
    asked.feed(OK + OK)
    assert got.trailers is None
    assert got.failures == []
    assert asked.port.aborted


# --- credit and back-pressure
def test_edge_26_response_nobody_takes_pauses_reading() -> None:
    limits = Http1Limits(head_max=1000, body_held_max=10_000)
    asked = Asked(limits=limits)
    got = asked.get(take=False)
    asked.turn()
    asked.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    fed = 0
    while asked.port.reading:
        asked.feed(b"x" * 700)
        fed += 700
        assert fed < 20_000
    assert len(got.body) <= limits.body_held_max + 700
    got.request.take(len(got.body))
    asked.turn()
    assert asked.port.reading
    assert len(got.body) == fed


def test_end_behind_untaken_bytes_waits_for_them() -> None:
    limits = Http1Limits(head_max=1000, body_held_max=100)
    asked = Asked(limits=limits)
    got = asked.get(take=False)
    asked.turn()
    asked.feed(b"HTTP/1.0 200 OK\r\n\r\n")
    asked.feed(b"x" * 100)
    asked.feed(b"y" * 100)
    asked.eof()
    assert got.body == b"x" * 100
    assert got.trailers is None
    got.request.take(100)
    asked.turn()
    assert got.body == b"x" * 100 + b"y" * 100
    got.request.take(100)
    asked.turn()
    assert got.trailers == []


def test_whole_response_on_a_closed_connection_waits_for_who_takes_it() -> None:
    limits = Http1Limits(head_max=1000, body_held_max=100)
    asked = Asked(limits=limits)
    got = asked.get(take=False)
    asked.turn()
    asked.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 150\r\nConnection: close\r\n\r\n")
    asked.feed(b"x" * 100)
    asked.feed(b"y" * 50)
    asked.eof()
    asked.session.close()
    assert (got.trailers, got.failures) == (None, [])
    got.request.take(100)
    asked.turn()
    assert bytes(got.body) == b"x" * 100 + b"y" * 50
    assert got.trailers == []


def test_part_of_a_response_on_a_closed_connection_is_a_loss() -> None:
    limits = Http1Limits(head_max=1000, body_held_max=100)
    asked = Asked(limits=limits)
    got = asked.get(take=False)
    asked.turn()
    asked.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 151\r\nConnection: close\r\n\r\n")
    asked.feed(b"x" * 100)
    asked.feed(b"y" * 50)
    asked.eof()
    asked.session.close()
    got.request.take(100)
    asked.turn()
    assert [failure.fault for failure in got.failures] == [Fault.LOST]


def test_upstream_that_takes_nothing_makes_the_request_wait() -> None:
    asked = Asked(limits=Http1Limits(write_high=1000))
    got = asked.post()
    asked.session.paused = True
    got.request.send(b"x" * 2000)
    assert not got.request.writable
    assert got.request.buffered > 2000
    assert asked.turn() == b""
    asked.session.paused = False
    asked.session.pump()
    assert got.drained == 1
    assert got.request.writable
    assert len(asked.turn()) > 2000


# --- draining
def test_drain() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.session.announce_shutdown()
    assert not asked.closes
    asked.feed(OK)
    assert got.trailers == []
    assert asked.closes
    idle = Asked()
    idle.session.refuse_streams()
    assert idle.closes
    with pytest.raises(RuntimeError):
        idle.get()


def test_bytes_are_counted() -> None:
    asked = Asked()
    asked.get()
    out = asked.turn()
    asked.feed(OK)
    assert (asked.session.bytes_in, asked.session.bytes_out) == (len(OK), len(out))
