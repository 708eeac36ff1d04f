"""HTTP/2 sessions of a proxy without a network: a client, a server, and a whole chain client → proxy → upstream.

`Wire` carries bytes between two sessions by hand; `Chain` couples two of them with a proxy's handler between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wharf.wire._nghttp2 import Session
from wharf.wire.limits import ClientLimits, ConnectionLimits
from wharf.wire.rpc import Peer
from wharf.wire.web import Failure, Header, Headers
from wharf.wire.web_h2 import (
    HeaderFilter,
    HttpClientSession,
    HttpClientStream,
    HttpServerSession,
    HttpServerStream,
    open_client_session,
    open_server_session,
)

Handler = Callable[[HttpServerStream], None]


@dataclass
class Connection:
    """A client connection as a shell would describe it."""

    peer: Peer = field(default_factory=lambda: Peer("test:1"))
    local_address: str = "127.0.0.1:6443"
    version: int = 2
    identity: str | None = None
    context: Any = None


class Wire:
    """Two sessions back to back. Each side's `write` fills a list; `carry` empties both into the other side."""

    def __init__(self, client: Session, server: Session) -> None:
        self.client = client
        self.server = server
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        client.write, server.write = self.to_server.append, self.to_client.append
        client.paused = server.paused = False

    def carry(self) -> bool:
        """One turn for both sides; whether anything moved."""
        self.client.pump()
        self.server.pump()
        sent, answered = b"".join(self.to_server), b"".join(self.to_client)
        self.to_server.clear()
        self.to_client.clear()
        if sent:
            self.server.receive(sent)
        if answered:
            self.client.receive(answered)
        self.client.pump()
        self.server.pump()
        return bool(sent or answered or self.to_server or self.to_client)


class Seen:
    """Everything that a request's callbacks told."""

    def __init__(self, request: HttpClientStream, take: bool = True) -> None:
        self.request = request
        self.status = 0
        self.headers: list[Header] = []
        self._body = bytearray()
        self.trailers: Headers | None = None
        self.failure: Failure | None = None
        self.informs: list[tuple[int, list[Header]]] = []
        self.calls = 0
        self.taking = take
        request.on_head = self._head
        request.on_data = self._data
        request.on_end = self._end
        request.on_failure = self._failed
        request.on_inform = lambda status, headers: self.informs.append((status, headers))

    @property
    def body(self) -> bytes:
        """What came of it."""
        return bytes(self._body)

    @property
    def ended(self) -> bool:
        """The whole response came."""
        return self.trailers is not None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a response header."""
        return dict(reversed(self.headers)).get(name)

    def _head(self, status: int, headers: list[Header]) -> None:
        assert self.status == 0
        self.status, self.headers = status, headers

    def _data(self, data: bytes) -> None:
        assert self.status
        self._body += data
        if self.taking:
            self.request.take(len(data))

    def _end(self, trailers: Headers) -> None:
        assert self.failure is None
        assert self.trailers is None
        self.trailers = trailers

    def _failed(self, failure: Failure) -> None:
        assert self.failure is None
        assert self.trailers is None
        self.failure = failure


class Link:
    """A client session and a server session, connected, settled."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: ConnectionLimits | None = None,
        client_limits: ClientLimits | None = None,
        now: Callable[[], float] = lambda: 1000.0,
    ) -> None:
        self.connection = Connection()
        self.server: HttpServerSession = open_server_session(
            handler, self.connection, limits or ConnectionLimits(), now
        )
        self.client: HttpClientSession = open_client_session(client_limits or ClientLimits(), now)
        self.wire = Wire(self.client, self.server)
        self.run()

    def run(self) -> None:
        """Carry bytes until both sides are silent."""
        for _ in range(100_000):
            if not self.wire.carry():
                return
        raise AssertionError("the two sides never fall silent")

    def ask(
        self,
        method: bytes = b"GET",
        target: bytes = b"/",
        headers: Sequence[Header] = (),
        body: bytes | None = None,
        take: bool = True,
    ) -> Seen:
        """One request, carried as far as it goes."""
        request = self.client.request(method, target, b"host.test", headers, end=body is None)
        seen = Seen(request, take)
        if body is not None:
            request.send(body)
            request.finish()
        self.run()
        return seen


class Chain:
    """client → front (served by a proxy handler) → upstream (served by `origin`)."""

    def __init__(
        self,
        origin: Handler,
        *,
        proxy: Callable[[Chain, HttpServerStream], None] | None = None,
        clean_end: bool = False,
        front_limits: ConnectionLimits | None = None,
        origin_limits: ConnectionLimits | None = None,
        back_limits: ClientLimits | None = None,
        client_limits: ClientLimits | None = None,
    ) -> None:
        self.request_filter = HeaderFilter([b"x-secret"], [b"x-remote-"])
        self.response_filter = HeaderFilter([b"x-internal"])
        self.clean_end = clean_end
        self.exchanges: list[HttpServerStream] = []
        self.upstreams: list[HttpClientStream] = []
        self.told: list[tuple[str, Any]] = []
        self._proxy = proxy or pass_on
        self.back = Link(origin, limits=origin_limits, client_limits=back_limits)
        self.front = Link(self.serve, limits=front_limits, client_limits=client_limits)

    def serve(self, exchange: HttpServerStream) -> None:
        """The proxy's handler."""
        self.exchanges.append(exchange)
        self._proxy(self, exchange)

    def run(self) -> None:
        """Carry bytes on both connections until all is silent."""
        for _ in range(100_000):
            moved = self.front.wire.carry()
            if not self.back.wire.carry() and not moved:
                return
        raise AssertionError("the chain never falls silent")

    def ask(self, *arguments: Any, **more: Any) -> Seen:
        """One request through the proxy."""
        request = self.front.client.request(
            more.get("method", b"GET"), more.get("target", b"/"), b"host.test", more.get("headers", ()), end=True
        )
        seen = Seen(request, more.get("take", True))
        self.run()
        return seen


def pass_on(chain: Chain, exchange: HttpServerStream) -> None:
    """The plain proxy: forward, couple, stream the body."""
    request = chain.back.client.forward(exchange, chain.request_filter, [(b"x-remote-user", b"ann")], b"up.test")
    chain.upstreams.append(request)
    request.couple(exchange, chain.response_filter, [(b"x-via", b"wharf")], chain.clean_end)
    request.on_end = lambda trailers: chain.told.append(("end", trailers))
    request.on_failure = lambda failure: chain.told.append(("failure", failure))
    exchange.on_cancel = lambda: chain.told.append(("cancel", None))
    exchange.on_complete = lambda: chain.told.append(("complete", None))
    if exchange.body_expected:

        def data(chunk: bytes) -> None:
            request.send(chunk)
            exchange.take(len(chunk))

        exchange.on_data = data
        exchange.on_end = request.finish


def answer(exchange: HttpServerStream) -> None:
    """A small origin."""
    exchange.respond(200, [(b"audit-id", b"7"), (b"warning", b"a"), (b"warning", b"b"), (b"x-internal", b"1")])
    exchange.send(b"hello ")
    exchange.send(b"world")
    exchange.finish()


class Held:
    """An origin that keeps its exchanges for the test to answer."""

    def __init__(self, respond: bool = False) -> None:
        self.exchanges: list[HttpServerStream] = []
        self.cancels: list[int] = []
        self._respond = respond

    def __call__(self, exchange: HttpServerStream) -> None:
        self.exchanges.append(exchange)
        exchange.on_cancel = lambda: self.cancels.append(exchange.id)
        if self._respond:
            exchange.respond(200, [(b"content-type", b"application/json")])


def is_clean(chain: Chain) -> None:
    """Nothing is left anywhere."""
    for link in (chain.front, chain.back):
        for session in (link.client, link.server):
            assert session.streams == {}
            assert session.held_bytes == session.unsent == 0
