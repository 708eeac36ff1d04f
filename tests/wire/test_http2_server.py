"""An HTTP/2 server session of a proxy: what its handler sees, what its client gets."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from wharf.wire._nghttp2 import EventSession
from wharf.wire.events import Data, Event, Head, Reset, Trailers
from wharf.wire.limits import ConnectionLimits
from wharf.wire.session import WebSession
from wharf.wire.web import Exchange, Headers, Link, Request
from wharf.wire.web_h2 import HttpServerStream, open_server_session
from wire import web_pair
from wire.web_pair import Connection, Wire

PROTOCOL_ERROR, INTERNAL_ERROR, NO_ERROR = 1, 2, 0
HEAD = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/a?b=%2F;c//"), (b":authority", b"Host.test:6443")]


class Served:
    """A raw client against a server session whose exchanges are collected, and whose requests may break the rules."""

    def __init__(self, handler: web_pair.Handler | None = None, limits: ConnectionLimits | None = None) -> None:
        self.exchanges: list[HttpServerStream] = []
        self._handler = handler
        self.server = open_server_session(self._handle, Connection(), limits or ConnectionLimits(), lambda: 0.0)
        self.client = EventSession(False)
        self.wire = Wire(self.client, self.server)
        self.events: list[Event] = []

    def _handle(self, exchange: HttpServerStream) -> None:
        self.exchanges.append(exchange)
        if self._handler is not None:
            self._handler(exchange)

    def run(self) -> None:
        while self.wire.carry():
            self.events += self.client.take_events()
        self.events += self.client.take_events()

    def ask(self, headers: Headers = HEAD, body: bytes = b"", end: bool = True) -> int:
        stream_id = self.client.request(headers, body, end)
        self.run()
        return stream_id

    def of(self, stream_id: int) -> list[Event]:
        return [event for event in self.events if event.stream_id == stream_id]


def answer(exchange: HttpServerStream) -> None:
    exchange.respond(200, [], end=True)


def head(*changed: tuple[bytes, bytes], drop: bytes = b"") -> list[tuple[bytes, bytes]]:
    return [pair for pair in HEAD if pair[0] != drop] + list(changed)


def conforms(exchange: HttpServerStream, session: WebSession, link: Link, request: Request) -> Exchange:
    """For the type checker: the classes are what web.py and session.py promise."""
    return exchange


def test_what_a_handler_reads() -> None:
    served = Served(answer)
    served.ask(head((b"user-agent", b"kubectl"), (b"warning", b"1"), (b"warning", b"2"), (b"empty", b"")))
    exchange = served.exchanges[0]
    assert (exchange.method, exchange.target) == (b"GET", b"/a?b=%2F;c//")
    assert exchange.authority == b"Host.test:6443"
    assert exchange.headers == [(b"user-agent", b"kubectl"), (b"warning", b"1"), (b"warning", b"2"), (b"empty", b"")]
    assert exchange.header(b"warning") == b"1"
    assert exchange.header(b"empty") == b""
    assert exchange.header(b"cookie") is None
    assert exchange.has_prefix(b"user-")
    assert exchange.has_prefix(b"empty")
    assert not exchange.has_prefix(b"empty-")
    assert exchange.content_length is None
    assert not exchange.body_expected
    assert not exchange.wants_upgrade
    assert exchange.connection.local_address == "127.0.0.1:6443"
    exchange.drop_head()
    assert exchange.headers == []
    assert exchange.target == b"/a?b=%2F;c//"


def test_a_whole_exchange() -> None:
    seen: list[Any] = []

    def handler(exchange: HttpServerStream) -> None:
        def end(trailers: Headers) -> None:
            seen.append(trailers)
            exchange.respond(201, [(b"a", b"b")])
            exchange.send(b"x" * 100)
            exchange.finish([(b"t", b"1")])

        def data(chunk: bytes) -> None:
            seen.append(chunk)
            exchange.take(len(chunk))

        exchange.on_data, exchange.on_end = data, end
        exchange.on_complete = lambda: seen.append("complete")
        exchange.on_cancel = lambda: seen.append("cancel")

    served = Served(handler)
    stream_id = served.ask(head((b"content-length", b"5")), b"hello")
    assert seen == [b"hello", [], "complete"]
    assert served.of(stream_id) == [
        Head(stream_id, ((b":status", b"201"), (b"a", b"b"))),
        Data(stream_id, b"x" * 100),
        Trailers(stream_id, ((b"t", b"1"),)),
        Data(stream_id, b"", True),
        Reset(stream_id, 0),
    ]
    exchange = served.exchanges[0]
    assert exchange.done
    assert (exchange.bytes_in, exchange.bytes_out, exchange.status) == (5, 100, 201)
    assert served.server.open_streams == 0
    exchange.send(b"late")
    exchange.finish()
    exchange.respond(500, [])
    exchange.abort()
    served.run()
    assert served.server.held_bytes == served.server.unsent == 0


def test_a_body_waits_for_its_reader_within_its_window() -> None:
    served = Served(limits=ConnectionLimits(stream_window=65536))
    stream_id = served.client.request(head(), bytes(200_000))
    served.run()
    exchange = served.exchanges[0]
    assert exchange.body_expected
    assert exchange.bytes_in == served.server.held_bytes == 65536
    taken: list[bytes] = []
    ends: list[Headers] = []
    exchange.on_end = ends.append
    served.run()
    assert not ends, "the body was not read"
    exchange.on_data = taken.append
    served.run()
    assert len(b"".join(taken)) <= 65536
    while sum(map(len, taken)) < 200_000:
        exchange.take(65536)
        served.run()
    assert ends == [[]]
    exchange.take(1 << 40)
    assert served.server.held_bytes == 0
    assert served.of(stream_id) == []


def test_a_reader_that_comes_late_gets_an_end_that_came_early() -> None:
    served = Served()
    served.ask(head(), b"abc")
    taken: list[Any] = []
    served.exchanges[0].on_data = taken.append
    served.run()
    served.exchanges[0].on_end = taken.append
    served.run()
    assert taken == [b"abc", []]


def test_request_trailers_are_told() -> None:
    told: list[Headers] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_data = lambda chunk: exchange.take(len(chunk))
        exchange.on_end = told.append

    link = web_pair.Link(handler)
    request = link.client.request(b"PUT", b"/", b"h", [], end=False)
    request.send(b"x")
    request.finish([(b"checksum", b"1"), (b"connection", b"x"), (b":status", b"200"), (b"Bad", b"x")])
    link.run()
    assert told == [[(b"checksum", b"1")]]


def test_edge_17_bodies_are_not_sent_where_there_may_be_none() -> None:
    def handler(exchange: HttpServerStream) -> None:
        status = int(exchange.target[1:])
        exchange.respond(status, [] if status == 204 else [(b"content-length", b"3")])
        exchange.send(b"abc")
        exchange.finish()

    served = Served(handler)
    for method, status in ((b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")):
        stream_id = served.ask([(b":method", method), (b":path", b"/" + status), *HEAD[1:2], *HEAD[3:]])
        assert [event.data for event in served.of(stream_id) if isinstance(event, Data)] == [b""]


def test_edge_17_interim_responses() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.inform(103, [(b"link", b"</a>")])
        exchange.respond(200, [], end=True)
        exchange.inform(103, [])

    link = web_pair.Link(handler)
    seen = link.ask()
    assert seen.informs == [(103, [(b"link", b"</a>")])]
    assert (seen.status, seen.ended) == (200, True)


def test_connection_headers_and_broken_fields_are_not_sent() -> None:
    def handler(exchange: HttpServerStream) -> None:
        fields = [(b"connection", b"close"), (b"keep-alive", b"1"), (b"ok", b"1"), (b"bad\r\n", b"1"), (b"x", b"a\nb")]
        exchange.respond(200, [*fields, (b":status", b"500"), (b"Upper", b"1"), (b"", b"1")], end=True)

    link = web_pair.Link(handler)
    assert link.ask().headers == [(b"ok", b"1")]


@pytest.mark.parametrize(
    "headers",
    [
        head((b"host", b"other.test")),
        head((b"host", b"a"), (b"host", b"a"), drop=b":authority"),
        head((b"connection", b"x-remote-user")),
        head((b"transfer-encoding", b"chunked")),
        head((b"te", b"gzip")),
        head(drop=b":path"),
        head((b"content-length", b"5")),
        head((b"content_length", b"0")),
        head((b"transfer_encoding", b"chunked")),
        head((b"x", b"1\r\nx-remote-user: admin")),
        head((b"x y", b"1")),
    ],
    ids=[
        *("host differs", "two hosts", "connection", "transfer-encoding", "te", "no path", "length without body"),
        *("a length in disguise", "a coding in disguise", "line in a value", "space in a name"),
    ],
)
def test_edge_02_malformed_requests_are_reset(headers: Headers) -> None:
    served = Served(answer)
    stream_id = served.ask(headers)
    assert served.of(stream_id) == [Reset(stream_id, PROTOCOL_ERROR)]
    assert served.exchanges == []
    assert served.of(served.ask())[0] == Head(stream_id + 2, ((b":status", b"200"),)), "the connection lives on"


@pytest.mark.parametrize("body", [b"four", b"sixsix"])
def test_a_body_that_is_not_as_long_as_announced_is_reset(body: bytes) -> None:
    cancelled: list[bool] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_cancel = lambda: cancelled.append(True)
        exchange.on_end = lambda trailers: pytest.fail("it has no end")

    served = Served(handler)
    stream_id = served.client.request(head((b"content-length", b"5")), b"", end=False)
    served.run()
    served.client.send(stream_id, body, end=True)
    served.run()
    assert served.of(stream_id) == [Reset(stream_id, PROTOCOL_ERROR)]
    assert cancelled == [True]
    assert served.server.held_bytes == 0


def test_host_stands_in_for_the_authority() -> None:
    served = Served(answer)
    served.ask(head((b"host", b"h.test"), drop=b":authority"))
    assert served.exchanges[0].authority == b"h.test"
    served.ask(head((b"host", b"HOST.test:6443")))
    assert served.exchanges[1].authority == b"Host.test:6443"


def refusal(served: Served, stream_id: int) -> tuple[bytes, bytes]:
    """Status and body of an answer that the wire gave by itself."""
    events = served.of(stream_id)
    (head,) = (event for event in events if isinstance(event, Head))
    body = b"".join(event.data for event in events if isinstance(event, Data))
    headers = dict(head.headers)
    assert headers[b"content-length"] == b"%d" % len(body)
    return headers[b":status"], body


def test_connect_is_refused() -> None:
    served = Served(answer)
    stream_id = served.ask([(b":method", b"CONNECT"), (b":authority", b"a:1")])
    assert refusal(served, stream_id) == (b"405", b"405 Method Not Allowed: CONNECT is not served\n")
    assert served.exchanges == []


def test_a_header_list_beyond_the_limit_is_answered_431() -> None:
    served = Served(answer, ConnectionLimits(header_list_max=2000))
    stream_id = served.ask(head((b"big", b"x" * 3000)), b"with a body", end=False)
    text = b"431 Request Header Fields Too Large: the request's headers are longer than 2000 bytes\n"
    assert refusal(served, stream_id) == (b"431", text)
    assert served.of(stream_id)[-1] == Reset(stream_id, NO_ERROR)
    assert served.exchanges == []
    assert served.server.held_bytes == 0
    assert served.of(served.ask()) != []


def test_trailers_beyond_the_limit_reset_the_stream() -> None:
    cancelled: list[bool] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_cancel = lambda: cancelled.append(True)

    link = web_pair.Link(handler, limits=ConnectionLimits(header_list_max=2000))
    request = link.client.request(b"PUT", b"/", b"h", [], end=False)
    seen = web_pair.Seen(request)
    link.run()
    request.finish([(b"big", b"x" * 3000)])
    link.run()
    assert seen.failure is not None
    assert seen.failure.code == 11
    assert cancelled == [True]


def test_an_early_answer_tells_the_client_to_stop() -> None:
    told: list[str] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_complete = lambda: told.append("complete")
        exchange.respond(413, [], end=True)

    served = Served(handler)
    stream_id = served.ask(head(), bytes(10), end=False)
    assert served.of(stream_id)[-1] == Reset(stream_id, NO_ERROR)
    assert told == ["complete"]
    assert served.server.held_bytes == 0


@pytest.mark.parametrize("respond", [False, True])
def test_abort(respond: bool) -> None:
    told: list[str] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_complete = lambda: told.append("complete")
        exchange.on_cancel = lambda: told.append("cancel")
        if respond:
            exchange.respond(200, [])
            exchange.send(b"part")

    served = Served(handler)
    stream_id = served.ask()
    served.exchanges[0].abort()
    served.run()
    assert served.of(stream_id)[-1] == Reset(stream_id, INTERNAL_ERROR)
    assert told == [], "who aborts need not be told"
    assert not any(isinstance(event, Data) and event.end for event in served.of(stream_id))


@pytest.mark.parametrize("when", ["before the answer", "in the middle", "connection lost"])
def test_a_client_that_goes_away_is_told_once(when: str) -> None:
    told: list[str] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_complete = lambda: told.append("complete")
        exchange.on_cancel = lambda: told.append("cancel")
        if when == "in the middle":
            exchange.respond(200, [])
            exchange.send(bytes(1_000_000))
            exchange.finish()

    served = Served(handler)
    served.client.auto_take = False
    stream_id = served.ask()
    if when == "connection lost":
        served.server.close()
    else:
        served.client.reset(stream_id)
        served.run()
    assert told == ["cancel"]
    assert served.exchanges[0].done
    served.server.close()
    assert told == ["cancel"]


def test_a_request_cancelled_before_its_handler_ran_is_never_seen() -> None:
    served = Served(answer)
    served.run()
    stream_id = served.client.request(HEAD)
    opening = served.client.pull(1 << 16) or b""
    served.client.reset(stream_id)
    served.server.receive(opening + (served.client.pull(1 << 16) or b""))
    served.server.pump()
    assert served.exchanges == []
    assert served.server.open_streams == 0


def test_a_handler_that_fails_costs_its_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    def handler(exchange: HttpServerStream) -> None:
        if exchange.method == b"GET":
            raise LookupError("oops")
        exchange.respond(200, [], end=True)

    served = Served(handler)
    with caplog.at_level(logging.CRITICAL + 1):
        stream_id = served.ask()
    assert served.of(stream_id) == [Reset(stream_id, INTERNAL_ERROR)]
    other = served.ask([(b":method", b"POST"), *HEAD[1:]])
    assert served.of(other)[0] == Head(other, ((b":status", b"200"),))


def test_buffered_writable_and_drain() -> None:
    drained: list[int] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.on_drain = lambda: drained.append(exchange.buffered)
        exchange.respond(200, [])

    served = Served(handler, ConnectionLimits(stream_high=100_000, stream_low=10_000))
    served.client.auto_take = False
    stream_id = served.ask()
    exchange = served.exchanges[0]
    while exchange.writable:
        exchange.send(bytes(10_000))
    served.run()
    assert exchange.buffered == 110_000 - 65535
    assert not drained
    served.client.take(stream_id)
    served.run()
    assert len(drained) == 1
    assert exchange.writable
    assert exchange.bytes_out == 110_000


def test_edge_13_there_is_no_upgrade_in_http2() -> None:
    served = Served()
    served.ask()
    with pytest.raises(RuntimeError):
        served.exchanges[0].upgrade([])


def test_drain_lets_exchanges_finish() -> None:
    served = Served()
    stream_id = served.ask()
    served.server.announce_shutdown()
    served.run()
    assert served.client.goaway_received
    served.server.refuse_streams()
    served.run()
    assert not served.server.terminating
    answer(served.exchanges[0])
    served.run()
    assert served.of(stream_id)[-1] == Reset(stream_id, 0)
    assert served.server.terminating
    assert served.server.finished


def test_the_end_of_a_peer_ends_the_connection() -> None:
    served = Served()
    served.ask()
    assert not served.server.terminating
    served.server.receive_eof()
    assert served.server.terminating
