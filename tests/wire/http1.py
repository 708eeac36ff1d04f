"""Both roles of HTTP/1.1 without a network: a session, what it does to its transport, and a loop turned by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from wharf.wire.limits import Http1Limits
from wharf.wire.rpc import Peer
from wharf.wire.web import Exchange, Failure, Header, Headers, Tunnel
from wharf.wire.web_h1 import Http1ServerSession
from wharf.wire.web_h1_client import Http1ClientSession, Http1Request


class Loop:
    """`call_soon`, and a turn when the test says so."""

    def __init__(self) -> None:
        self._due: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def call_soon(self, callback: Callable[..., object], *words: Any) -> None:
        self._due.append((callback, words))

    def run(self) -> None:
        while self._due:
            callback, words = self._due.popleft()
            callback(*words)


class FakePort:
    """The transport: keeps what is written, and what it was told."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.unsent = 0
        self.reading = True
        self.eof = False
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert data
        assert not self.eof
        assert not self.closed
        assert not self.aborted
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data


class Connection:
    """`ServedConnection`."""

    version = 1

    def __init__(self) -> None:
        self.peer = Peer("127.0.0.1:4711")
        self.local_address = "127.0.0.1:6443"
        self.identity: str | None = None
        self.context: Any = None


@dataclass
class Seen:
    """What a handler saw of one exchange."""

    exchange: Exchange
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers | None = None  # None: no end yet
    cancelled: int = 0
    completed: int = 0
    drained: int = 0

    def listen(self, *, take: bool = True) -> None:
        """Set all callbacks."""
        exchange = self.exchange

        def on_data(data: bytes) -> None:
            self.body += data
            if take:
                exchange.take(len(data))

        def on_end(trailers: Headers) -> None:
            assert self.trailers is None
            self.trailers = list(trailers)

        def on_cancel() -> None:
            self.cancelled += 1

        def on_complete() -> None:
            self.completed += 1

        def on_drain() -> None:
            self.drained += 1

        exchange.on_end, exchange.on_cancel, exchange.on_complete = on_end, on_cancel, on_complete
        exchange.on_drain = on_drain
        exchange.on_data = on_data


class Served:
    """A server session; exchanges are kept in `seen`, and answered by `answer` if there is one."""

    def __init__(
        self,
        answer: Callable[[Exchange], None] | None = None,
        *,
        limits: Http1Limits | None = None,
        listen: bool = True,
        take: bool = True,
    ) -> None:
        self.seen: list[Seen] = []
        self.port = FakePort()
        self.loop = Loop()
        self.connection = Connection()
        self.session = Http1ServerSession(self._handle, self.connection, limits or Http1Limits())
        self._answer = answer
        self._listen = listen
        self._take = take
        attach(self.session, self.port, self.loop)

    def _handle(self, exchange: Exchange) -> None:
        seen = Seen(exchange)
        self.seen.append(seen)
        if self._listen:
            seen.listen(take=self._take)
        if self._answer is not None:
            self._answer(exchange)

    @property
    def exchange(self) -> Exchange:
        """The latest."""
        return self.seen[-1].exchange

    @property
    def closes(self) -> bool:
        """Whether the shell would close or drop the connection now, or waits only for the client to end."""
        lingers = self.session.terminating and self.port.eof
        return self.port.aborted or self.port.closed or self.session.finished or lingers

    def feed(self, data: bytes) -> bytes:
        """Bytes of the client; what the server wrote."""
        self.session.receive(data)
        self.session.pump()
        return self.turn()

    def turn(self) -> bytes:
        self.loop.run()
        return self.port.take()

    def eof(self) -> bytes:
        self.session.receive_eof()
        self.session.pump()
        return self.turn()


@dataclass
class Got:
    """What came back for one request."""

    request: Http1Request
    informs: list[tuple[int, list[Header]]] = field(default_factory=list)
    status: int = 0
    headers: list[Header] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers | None = None  # None: no end yet
    failures: list[Failure] = field(default_factory=list)
    tunnel: Tunnel | None = None
    drained: int = 0

    def listen(self, *, take: bool = True) -> None:
        request = self.request

        def on_head(status: int, headers: list[Header]) -> None:
            self.status, self.headers = status, headers

        def on_data(data: bytes) -> None:
            self.body += data
            if take:
                request.take(len(data))

        def on_end(trailers: Headers) -> None:
            assert self.trailers is None
            assert not self.failures
            self.trailers = list(trailers)

        def on_failure(failure: Failure) -> None:
            assert self.trailers is None
            self.failures.append(failure)

        def on_upgrade(headers: list[Header], tunnel: Tunnel) -> None:
            self.headers, self.tunnel = headers, tunnel

        def on_drain() -> None:
            self.drained += 1

        request.on_inform = lambda status, headers: self.informs.append((status, headers))
        request.on_head, request.on_data, request.on_end = on_head, on_data, on_end
        request.on_failure, request.on_upgrade, request.on_drain = on_failure, on_upgrade, on_drain


class Asked:
    """A client session; what its requests got is kept."""

    def __init__(self, *, limits: Http1Limits | None = None) -> None:
        self.port = FakePort()
        self.loop = Loop()
        self.session = Http1ClientSession(limits or Http1Limits())
        attach(self.session, self.port, self.loop)

    @property
    def closes(self) -> bool:
        """Whether the shell would close or drop the connection now."""
        return self.port.aborted or self.port.closed or self.session.finished

    def get(self, target: bytes = b"/", headers: Headers = (), *, method: bytes = b"GET", take: bool = True) -> Got:
        got = Got(self.session.request(method, target, b"api.example", headers))
        got.listen(take=take)
        return got

    def post(self, headers: Headers = (), *, method: bytes = b"POST") -> Got:
        got = Got(self.session.request(method, b"/", b"api.example", headers, end=False))
        got.listen()
        return got

    def upgrade(self, headers: Headers = ((b"upgrade", b"SPDY/3.1"),), *, method: bytes = b"POST") -> Got:
        got = Got(self.session.upgrade_request(method, b"/exec", b"api.example", headers))
        got.listen()
        return got

    def feed(self, data: bytes) -> bytes:
        """Bytes of the upstream; what the client wrote."""
        self.session.receive(data)
        self.session.pump()
        return self.turn()

    def turn(self) -> bytes:
        self.loop.run()
        return self.port.take()

    def eof(self) -> bytes:
        self.session.receive_eof()
        self.session.pump()
        return self.turn()


def attach(session: Http1ServerSession | Http1ClientSession, port: FakePort, loop: Loop) -> None:
    """As a shell does."""
    session.write, session.call_soon, session.port = port.write, loop.call_soon, port
    session.paused = False


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at these places."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


def say_ok(exchange: Exchange) -> None:
    """A handler: 200 and two bytes."""
    exchange.respond(200, [(b"content-length", b"2")])
    exchange.send(b"ok")
    exchange.finish()


def echo(exchange: Exchange) -> None:
    """A handler: the request's body as the response's, its trailers too."""
    exchange.respond(200, [(b"x-target", exchange.target)])
    exchange.on_data = exchange.send
    exchange.on_end = exchange.finish
    if not exchange.body_expected:
        exchange.finish()
