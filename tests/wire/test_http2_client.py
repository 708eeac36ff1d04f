"""An HTTP/2 client session of a proxy: what a request sends, and how its end is told."""

from __future__ import annotations

from typing import Any

import pytest
from wharf.wire._nghttp2 import EventSession
from wharf.wire.events import Data, Event, Head
from wharf.wire.limits import ClientLimits
from wharf.wire.web import Fault, Headers
from wharf.wire.web_h2 import HttpClientStream, HttpServerStream, open_client_session
from wire.pair import raw_frame
from wire.web_pair import Link, Seen, Wire

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY = 0, 1, 3, 4, 5, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS = 3
OK = b"\x88"  # :status 200 from the static table


class Origin:
    """A client session against a raw server that may break the rules."""

    def __init__(self, limits: ClientLimits | None = None, settings: tuple[tuple[int, int], ...] = ()) -> None:
        self.client = open_client_session(limits or ClientLimits(), lambda: 0.0)
        self.server = EventSession(True, settings=settings)
        self.wire = Wire(self.client, self.server)
        self.events: list[Event] = []
        self.run()

    def run(self) -> None:
        while self.wire.carry():
            self.events += self.server.take_events()
        self.events += self.server.take_events()

    def ask(self, body: bytes | None = None, end: bool = True, method: bytes = b"GET") -> Seen:
        request = self.client.request(method, b"/", b"h", [], end=body is None and end)
        seen = Seen(request)
        if body is not None:
            request.send(body)
            if end:
                request.finish()
        self.run()
        return seen

    def feed(self, *frames: bytes) -> None:
        """Bytes as from the server, past the one that plays it."""
        for frame in frames:
            self.client.receive(frame)
        self.client.pump()


def answer(exchange: HttpServerStream) -> None:
    exchange.respond(200, [(b"a", b"b")])
    exchange.send(b"hello")
    exchange.finish([(b"t", b"1")])


def test_what_goes_over_the_wire() -> None:
    origin = Origin()
    request = origin.client.request(
        b"PATCH",
        b"/a%2Fb?x=+;y&&z=",
        b"up.test:6443",
        [(b"x", b"1"), (b"x", b""), (b"connection", b"x")],
        scheme=b"http",
    )
    origin.run()
    pseudo = (
        (b":method", b"PATCH"),
        (b":scheme", b"http"),
        (b":authority", b"up.test:6443"),
        (b":path", b"/a%2Fb?x=+;y&&z="),
    )
    assert origin.events[0] == Head(request.id, (*pseudo, (b"x", b"1"), (b"x", b"")))
    assert origin.events[1] == Data(request.id, b"", True)


def test_a_whole_response() -> None:
    link = Link(answer)
    seen = link.ask()
    assert (seen.status, seen.headers, seen.body, seen.trailers) == (200, [(b"a", b"b")], b"hello", [(b"t", b"1")])
    assert (seen.request.bytes_in, seen.request.done, seen.request.status) == (5, True, 200)
    assert link.client.open_requests == link.client.held_bytes == 0
    seen.request.reset()
    seen.request.send(b"late")
    seen.request.finish()
    seen.request.take(100)
    link.run()


def test_a_body_is_sent_with_back_pressure() -> None:
    taken: list[bytes] = []
    link = Link(lambda exchange: setattr(exchange, "on_data", taken.append))
    drained: list[int] = []
    request = link.client.request(b"PUT", b"/", b"h", [], end=False)
    request.on_drain = lambda: drained.append(request.buffered)
    request.send(b"")
    while request.writable:
        request.send(bytes(100_000))
    link.run()
    assert request.buffered == 300_000 - 256 * 1024
    assert request.bytes_out == 256 * 1024
    assert drained == [request.buffered]
    link.server.streams[request.id].take(sum(map(len, taken)))  # type: ignore[attr-defined]
    link.run()
    assert request.buffered == 0


def test_a_response_waits_in_its_own_window() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [])
        exchange.send(bytes(1_000_000))
        exchange.finish()

    link = Link(handler)
    slow = link.ask(take=False)
    assert len(slow.body) == link.client.held_bytes == 256 * 1024
    assert link.ask(method=b"HEAD").ended, "another stream of the connection goes on"
    assert len(link.ask().body) == 1_000_000
    slow.taking = True
    slow.request.take(len(slow.body))
    link.run()
    assert len(slow.body) == 1_000_000
    assert slow.ended
    assert link.client.held_bytes == 0


def test_what_nobody_reads_is_not_held() -> None:
    link = Link(answer)
    request = link.client.request(b"GET", b"/", b"h", [])
    ends: list[Headers] = []
    request.on_end = ends.append
    link.run()
    assert ends == [[(b"t", b"1")]]
    assert link.client.held_bytes == 0


def test_edge_17_interim_responses_come_before_the_head() -> None:
    origin = Origin()
    seen = origin.ask()
    origin.feed(
        raw_frame(HEADERS, END_HEADERS, 1, b"\x08\x03103\x00\x01l\x01a"),
        raw_frame(HEADERS, END_HEADERS, 1, b"\x08\x03100"),
        raw_frame(HEADERS, END_HEADERS, 1, OK + b"\x00\x01b\x01c"),
        raw_frame(DATA, 0, 1, b"x"),
        raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01t\x01u"),
    )
    assert seen.informs == [(103, [(b"l", b"a")]), (100, [])]
    assert (seen.status, seen.headers, seen.body, seen.trailers) == (200, [(b"b", b"c")], b"x", [(b"t", b"u")])


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_edge_17_no_body_where_there_may_be_none(method: bytes) -> None:
    origin = Origin()
    seen = origin.ask(method=method)
    status = b"\x88" if method == b"HEAD" else b"\x8b"  # 200, 304
    origin.feed(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, status + b"\x00\x0econtent-length\x015"))
    assert seen.header(b"content-length") == b"5"
    assert seen.ended
    assert seen.body == b""


@pytest.mark.parametrize(
    "frames",
    [
        [
            raw_frame(HEADERS, END_HEADERS, 1, OK + b"\x00\x0econtent-length\x015"),
            raw_frame(DATA, END_STREAM, 1, b"four"),
        ],
        [raw_frame(HEADERS, END_HEADERS, 1, OK + b"\x00\x0econtent-length\x015"), raw_frame(DATA, 0, 1, b"sixsix")],
        [raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, OK + b"\x00\x0econtent-length\x015")],
        [raw_frame(HEADERS, END_HEADERS, 1, b"\x00\x01a\x01b")],
        [raw_frame(HEADERS, END_HEADERS, 1, OK + OK)],
        [raw_frame(HEADERS, END_HEADERS, 1, OK + b"\x00\x0aconnection\x05close")],
        [raw_frame(HEADERS, END_HEADERS, 1, OK + b"\x00\x11transfer-encoding\x07chunked")],
        [raw_frame(HEADERS, END_HEADERS, 1, b"\x08\x03101")],
        [raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x08\x03100")],
    ],
    ids=["short", "long", "none", "no status", "two", "connection", "transfer-encoding", "101", "interim end"],
)
def test_a_response_that_breaks_http_is_a_protocol_failure(frames: list[bytes]) -> None:
    origin = Origin()
    seen = origin.ask()
    origin.feed(*frames)
    assert seen.failure is not None
    assert seen.failure.fault is Fault.PROTOCOL
    assert not seen.ended
    assert not origin.client.terminating, "the connection lives on"
    assert origin.client.open_requests == origin.client.held_bytes == 0


def test_a_header_list_beyond_the_limit_is_a_protocol_failure() -> None:
    link = Link(
        lambda exchange: exchange.respond(200, [(b"big", b"x" * 3000)], end=True),
        client_limits=ClientLimits(header_list_max=2000),
    )
    seen = link.ask()
    assert seen.failure is not None
    assert (seen.failure.fault, seen.failure.text) == (Fault.PROTOCOL, "header list too large")
    assert link.client.open_requests == 0


@pytest.mark.parametrize(
    ("code", "fault"), [(7, Fault.REFUSED), (8, Fault.RESET), (2, Fault.RESET), (0, Fault.RESET), (13, Fault.RESET)]
)
def test_resets_by_the_peer(code: int, fault: Fault) -> None:
    link = Link(lambda exchange: exchange.abort(code))
    seen = link.ask()
    assert seen.failure is not None
    assert (seen.failure.fault, seen.failure.code) == (fault, code)
    assert seen.request.done


def test_a_reset_after_the_whole_response_is_no_failure() -> None:
    link = Link(lambda exchange: exchange.respond(413, [], end=True))
    request = link.client.request(b"PUT", b"/", b"h", [], end=False)
    seen = Seen(request)
    request.send(bytes(1_000_000))
    link.run()
    assert (seen.status, seen.ended, seen.failure) == (413, True, None)
    assert link.client.open_requests == link.client.unsent == 0


def test_an_answer_in_full_ends_the_upload() -> None:
    """The server did not say that it reads no more: the client tells it that there will not be more."""
    origin = Origin()
    seen = origin.ask(b"part", end=False)
    origin.feed(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, OK))
    assert seen.ended
    assert seen.request.done
    assert origin.client.open_requests == 0


def test_edge_28_before_settings_there_is_no_capacity() -> None:
    client = open_client_session(ClientLimits(), lambda: 0.0)
    assert (client.settled, client.capacity) == (False, 0)
    client.receive(raw_frame(SETTINGS, 0, 0))
    assert (client.settled, client.capacity) == (True, ClientLimits().streams_max)


def test_edge_28_the_peers_stream_limit_is_honoured_and_may_change() -> None:
    origin = Origin(settings=((MAX_CONCURRENT_STREAMS, 3),))
    assert origin.client.capacity == 3
    first = origin.ask()
    assert origin.client.capacity == 2
    origin.feed(raw_frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1"))
    assert origin.client.capacity == 0
    origin.feed(raw_frame(SETTINGS, 0, 0, b"\0\3\0\0\0\5"))
    assert origin.client.capacity == 4
    first.request.reset()
    origin.client.pump()
    assert origin.client.capacity == 5
    assert Origin(ClientLimits(streams_max=2)).client.capacity == 2


def test_edge_28_goaway_refuses_what_it_does_not_cover() -> None:
    origin = Origin()
    covered, refused = origin.ask(), origin.ask()
    origin.feed(raw_frame(GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0"))
    assert covered.failure is None
    assert refused.failure is not None
    assert refused.failure.fault is Fault.REFUSED
    assert origin.client.capacity == 0
    assert origin.client.goaway_received
    origin.feed(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, OK))
    assert covered.ended
    assert origin.client.terminating


def test_edge_28_a_request_behind_a_goaway_is_refused() -> None:
    origin = Origin()
    request = origin.client.request(b"POST", b"/", b"h", [])
    seen = Seen(request)
    origin.feed(raw_frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0"))
    origin.run()
    assert seen.failure is not None
    assert seen.failure.fault is Fault.REFUSED
    assert not any(isinstance(event, Head) for event in origin.events)
    assert origin.client.open_requests == 0


def test_a_lost_connection_tells_sent_from_unsent() -> None:
    origin = Origin()
    sent = origin.ask()
    unsent = Seen(origin.client.request(b"GET", b"/", b"h", []))
    origin.client.close()
    assert sent.failure is not None
    assert unsent.failure is not None
    assert (sent.failure.fault, unsent.failure.fault) == (Fault.LOST, Fault.UNSENT)
    assert origin.client.open_requests == origin.client.capacity == 0
    with pytest.raises(RuntimeError):
        origin.client.request(b"GET", b"/", b"h", [])
    origin.client.close()
    origin.client.pump()
    origin.client.announce_shutdown()
    origin.client.refuse_streams()
    origin.client.ping(bytes(8))
    assert origin.client.terminating
    assert origin.client.finished


def test_a_peer_that_breaks_http2_loses_its_requests_by_protocol() -> None:
    origin = Origin()
    seen = origin.ask()
    origin.feed(raw_frame(DATA, 0, 0, b"x"))
    assert origin.client.terminating
    origin.client.close()
    assert seen.failure is not None
    assert seen.failure.fault is Fault.PROTOCOL


def test_a_peer_that_speaks_no_http2() -> None:
    client = open_client_session(ClientLimits(), lambda: 0.0)
    client.write = lambda data: None
    client.paused = False
    client.pump()
    client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
    client.pump()
    assert client.terminating
    assert client.capacity == 0


@pytest.mark.parametrize("when", ["unsent", "sent", "head came", "body came"])
def test_reset_is_silent_at_every_step(when: str) -> None:
    origin = Origin()
    request = origin.client.request(b"PUT", b"/", b"h", [], end=False)
    seen = Seen(request, take=False)
    request.send(bytes(1000))
    if when != "unsent":
        origin.run()
    if when == "head came":
        origin.server.respond(1, [(b":status", b"200")], end=False)
        origin.run()
    if when == "body came":
        origin.server.respond(1, [(b":status", b"200")], bytes(1000), end=False)
        origin.run()
    request.reset()
    assert request.done
    origin.run()
    assert seen.failure is None
    assert not seen.ended
    assert origin.client.streams == origin.server.streams == {}
    assert origin.client.held_bytes == origin.client.unsent == 0
    heads = [event for event in origin.events if isinstance(event, Head)]
    assert len(heads) == (0 if when == "unsent" else 1), "what was not sent yet is never sent"


def test_a_reset_from_a_callback_stops_the_rest() -> None:
    link = Link(answer)
    request = link.client.request(b"GET", b"/", b"h", [])
    seen = Seen(request)
    request.on_head = lambda status, headers: request.reset()
    link.run()
    assert (seen.body, seen.ended, seen.failure) == (b"", False, None)
    assert link.client.open_requests == link.client.held_bytes == 0


def test_push_is_refused() -> None:
    origin = Origin()
    origin.ask()
    origin.feed(raw_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82\x86\x84\x41\x01h"))
    assert origin.client.terminating


@pytest.mark.parametrize(
    ("method", "target", "authority", "headers"),
    [
        (b"G T", b"/", b"h", []),
        (b"GET", b"/\r\n", b"h", []),
        (b"GET", b"/", b"h\n", []),
        (b"GET", b"/", b"h", [(b"X", b"upper case")]),
        (b"GET", b"/", b"h", [(b"a b", b"1")]),
        (b"GET", b"/", b"h", [(b"x-remote-user", b"a\r\nx-remote-group: b")]),
        (b"GET", b"/", b"h", [(b":path", b"/other")]),
    ],
)
def test_what_http2_does_not_allow_is_not_sent(
    method: bytes, target: bytes, authority: bytes, headers: Headers
) -> None:
    origin = Origin()
    with pytest.raises(ValueError, match="HTTP/2 does not allow"):
        origin.client.request(method, target, authority, headers)
    origin.run()
    assert origin.events == []
    assert origin.client.open_requests == 0


def test_ping_and_farewell() -> None:
    link = Link(answer)
    link.client.ping(b"12345678")
    link.run()
    assert link.client.ping_acks == 1
    link.client.announce_shutdown()
    assert link.client.capacity == 0
    assert not link.client.terminating
    link.client.refuse_streams()
    link.run()
    assert link.client.terminating
    assert link.client.finished


def test_callbacks_that_fail_end_their_request_only() -> None:
    link = Link(answer)
    request = link.client.request(b"GET", b"/", b"h", [])

    def fail(status: int, headers: Any) -> None:
        raise LookupError("oops")

    request.on_head = fail
    link.run()
    assert request.done
    assert link.ask().ended


def test_a_request_ends_before_its_callback_hears_of_it() -> None:
    states: list[bool] = []
    link = Link(answer)
    request: HttpClientStream = link.client.request(b"GET", b"/", b"h", [])
    request.on_end = lambda trailers: states.append(request.done)
    link.run()
    assert states == [True]
