"""A relay between two HTTP/1.1 connections without a network: what passes, what does not, how ends are told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wharf.wire._http import HeaderFilter
from wharf.wire.relay import Relay
from wharf.wire.web import Exchange, Failure, Fault, Header

from .http1 import Asked, Served, pieces

POST = b"POST /x?%2F HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Through:
    """A client, the relay, an upstream. `cuts`: where bytes are cut on both legs."""

    def __init__(self, *, clean_end: bool = False, cuts: tuple[int, ...] = ()) -> None:
        self.clean_end = clean_end
        self.cuts = cuts
        self.answered = b""  # to the client, at once
        self.done: list[tuple[Relay, Failure | None]] = []
        self.asked = Asked()
        self.served = Served(self._relay, listen=False)

    def _relay(self, exchange: Exchange) -> None:
        relay = Relay(
            exchange,
            request_filter=HeaderFilter([b"host", b"expect"], [b"x-remote-"]),
            response_filter=HeaderFilter([], [b"x-inner-"]),
            on_done=lambda relay, failure: self.done.append((relay, failure)),
            clean_end=self.clean_end,
        )
        relay.start(self.asked.session, b"up", [(b"x-remote-user", b"me")])

    def client(self, data: bytes) -> bytes:
        """Bytes of the client; what the upstream got."""
        for piece in pieces(data, self.cuts):
            self.answered += self.served.feed(piece)
        return self.asked.turn()

    def upstream(self, data: bytes) -> bytes:
        """Bytes of the upstream; what the client got."""
        for piece in pieces(data, self.cuts):
            self.asked.feed(piece)
        return self.served.turn()


@given(st.lists(st.integers(0, 300), max_size=6).map(tuple))
def test_edge_17_request_and_response_pass_with_framing_of_their_own(cuts: tuple[int, ...]) -> None:
    through = Through(cuts=cuts)
    head = CHUNKED[:-2] + b"Connection: X-A, close\r\nX-A: 1\r\nX_Remote_User: evil\r\nAccept: */*\r\n\r\n"
    up = through.client(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert up.startswith(
        b"POST /x?%2F HTTP/1.1\r\nhost: up\r\naccept: */*\r\nx-remote-user: me\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert up.endswith(b"0\r\n\r\n")
    down = through.upstream(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nX-Inner-A: 1\r\nAudit-Id: 7\r\n\r\nok"
    )
    assert down == b"HTTP/1.1 200 OK\r\naudit-id: 7\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    assert [failure for _, failure in through.done] == [None]
    assert through.asked.session.capacity == 1


def test_edge_1_identity_does_not_come_in_trailers() -> None:
    through = Through()
    up = through.client(CHUNKED + b"0\r\nX-Remote-User: evil\r\nX_Remote_Group: evil\r\nX-T: 1\r\n\r\n")
    assert up.endswith(b"\r\n\r\n0\r\nx-t: 1\r\n\r\n")
    down = through.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Inner-A: 1\r\nX-U: 2\r\n\r\n")
    assert down.endswith(b"0\r\nx-u: 2\r\n\r\n")


def test_edge_16_expect_continue_is_answered_when_reading_begins() -> None:
    through = Through()
    up = through.client(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert b"expect" not in up
    assert through.answered == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert through.client(b"hello") == b"hello"


def test_edge_24_upstream_that_ends_early_cuts_the_client_off() -> None:
    for clean_end in (False, True):
        through = Through(clean_end=clean_end)
        through.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        through.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        through.asked.eof()
        last = through.served.turn()
        assert last == (b"0\r\n\r\n" if clean_end else b"")
        assert through.served.port.aborted is not clean_end
        failures = [failure for _, failure in through.done]
        assert [failure and failure.fault for failure in failures] == [Fault.LOST]


def test_edge_25_client_that_goes_ends_the_upstream_request_at_once() -> None:
    through = Through()
    through.client(b"GET /watch HTTP/1.1\r\nHost: a\r\n\r\n")
    through.upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    through.served.eof()
    assert through.asked.port.aborted
    assert [(relay.cancelled, failure) for relay, failure in through.done] == [(True, None)]


def test_edge_26_reader_that_takes_nothing_pauses_the_upstream() -> None:
    through = Through()
    through.client(b"GET /logs HTTP/1.1\r\nHost: a\r\n\r\n")
    through.served.session.paused = True
    through.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    fed = 0
    while through.asked.port.reading:
        through.upstream(b"x" * 16384)
        fed += 16384
        assert fed < 1 << 20
    through.served.session.paused = False
    through.served.session.pump()
    through.asked.turn()
    assert through.asked.port.reading
    assert len(through.served.turn()) >= fed


def test_headers_of_a_head_response_stay() -> None:
    through = Through()
    through.client(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    headers: list[Header] = [(b"Content-Length", b"500"), (b"ETag", b'"1"')]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    assert through.upstream(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n") == (
        b'HTTP/1.1 200 OK\r\netag: "1"\r\ncontent-length: 500\r\n\r\n'
    )
    assert through.asked.session.capacity == 1
