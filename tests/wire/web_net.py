"""Web servers, proxies and pools inside the test's loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from wharf.wire.client import HttpPool
from wharf.wire.client_shell import ProtocolName, RequestFailed, Target, client_context
from wharf.wire.coupled import Coupled
from wharf.wire.limits import ConnectionLimits
from wharf.wire.pool import PoolLimits
from wharf.wire.relay import REQUEST_ONLY_HERE, Relay
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.web import Exchange, Failure, Headers, Request
from wharf.wire.web_h2 import HeaderFilter, HttpClientSession, HttpServerStream
from wharf.wire.web_server import WEB_LIMITS, WebListener, WebServer
from wire.pki import Authority

CHUNK = bytes(range(256)) * 64  # 16 KiB
REQUEST_FILTER = HeaderFilter(REQUEST_ONLY_HERE)
RESPONSE_FILTER = HeaderFilter()
ADDED_TO_REQUESTS = ((b"x-added", b"1"),)
ADDED_TO_RESPONSES = ((b"x-proxy", b"yes"),)


class App:
    """A web application for tests: what it does is told by the first word of the path."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.open: list[Exchange] = []  # held exchanges
        self.cancelled = 0
        self.completed = 0
        self.uploaded = 0

    def __call__(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        exchange.on_cancel = self._cancel
        exchange.on_complete = self._complete
        word = exchange.target.partition(b"?")[0].split(b"/")[1]
        getattr(self, f"do_{word.decode()}")(exchange)

    def _cancel(self) -> None:
        self.cancelled += 1

    def _complete(self) -> None:
        self.completed += 1

    def do_hello(self, exchange: Exchange) -> None:
        body = b"hello " + exchange.authority
        exchange.respond(
            200, [(b"content-length", b"%d" % len(body)), (b"x-version", b"%d" % exchange.connection.version)]
        )
        exchange.send(body)
        exchange.finish()

    def do_headers(self, exchange: Exchange) -> None:
        text = b"\n".join(name + b": " + value for name, value in exchange.headers)
        exchange.respond(200, [(b"warning", b"one"), (b"warning", b"two"), (b"x-empty", b"")])
        exchange.send(exchange.method + b" " + exchange.target + b"\n" + text)
        exchange.finish()

    def do_status(self, exchange: Exchange) -> None:
        status = int(exchange.target.rpartition(b"/")[2])
        exchange.respond(status, [(b"x-kind", b"status")], end=True)

    def do_early(self, exchange: Exchange) -> None:
        """Answers without reading the body."""
        exchange.respond(413, [(b"content-length", b"5")])
        exchange.send(b"large")
        exchange.finish()

    def do_interim(self, exchange: Exchange) -> None:
        exchange.inform(103, [(b"link", b"</a>")])
        self.do_hello(exchange)

    def do_echo(self, exchange: Exchange) -> None:
        """Sends back what comes, as fast as it is read."""
        held = 0

        def data(piece: bytes) -> None:
            nonlocal held
            self.uploaded += len(piece)
            exchange.send(piece)
            held += len(piece)
            if exchange.writable:
                drain()

        def drain() -> None:
            nonlocal held
            taken, held = held, 0
            exchange.take(taken)

        def end(trailers: Headers) -> None:
            exchange.finish(trailers)

        exchange.respond(200, [(b"content-type", b"application/octet-stream")])
        if not exchange.body_expected:
            exchange.finish()
            return
        exchange.on_drain = drain
        exchange.on_end = end
        exchange.on_data = data

    def do_bytes(self, exchange: Exchange) -> None:
        """/bytes/<n>: so many, with an announced length."""
        left = int(exchange.target.rpartition(b"/")[2])
        exchange.respond(200, [(b"content-length", b"%d" % left)])

        def send() -> None:
            nonlocal left
            while left and exchange.writable:
                piece = CHUNK[: min(left, len(CHUNK))]
                left -= len(piece)
                exchange.send(piece)
            if not left:
                exchange.finish()

        exchange.on_drain = send
        send()

    def do_hold(self, exchange: Exchange) -> None:
        """A watch: says a word and stays open."""
        exchange.respond(200, [(b"content-type", b"application/json")])
        exchange.send(b"word\n")
        self.open.append(exchange)

    def do_silent(self, exchange: Exchange) -> None:
        """Nothing at all."""
        self.open.append(exchange)

    def do_upgrade(self, exchange: Exchange) -> None:
        """Everything comes back, the end included."""
        if not exchange.wants_upgrade:
            exchange.respond(400, [(b"content-length", b"12")])
            exchange.send(b"no upgrade!\n")
            exchange.finish()
            return
        tunnel = exchange.upgrade([(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")])

        def data(piece: bytes) -> None:
            tunnel.write(piece)
            if not tunnel.writable:
                tunnel.pause_reading()

        tunnel.on_drain = tunnel.resume_reading
        tunnel.on_eof = tunnel.write_eof
        tunnel.on_data = data


@dataclass(slots=True)
class Material:
    """One CA, one server certificate."""

    ca: Authority
    tls: DynamicTls

    def client(self, protocol: ProtocolName) -> ssl.SSLContext:
        return client_context(Path(self.ca.ca_file).read_bytes(), protocol=protocol)


def make_material(folder: Path) -> Material:
    ca = Authority(folder)
    files = ca.issue("server")
    return Material(ca, DynamicTls(Identity("server", Path(files.cert).read_bytes(), Path(files.key).read_bytes())))


@contextlib.asynccontextmanager
async def web(
    handler: Callable[[Exchange], None], tls: DynamicTls | None = None, limits: ConnectionLimits = WEB_LIMITS
) -> AsyncIterator[WebServer]:
    server = WebServer(handler, [WebListener()], tls=tls, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def target_of(port: int, protocol: ProtocolName, material: Material | None = None) -> Target:
    tls = material.client(protocol) if material is not None else None
    return Target("127.0.0.1", port, tls, "localhost" if tls is not None else "", protocol)


@contextlib.asynccontextmanager
async def pooled(
    port: int, protocol: ProtocolName, material: Material | None = None, limits: PoolLimits | None = None
) -> AsyncIterator[HttpPool]:
    pool = HttpPool(target_of(port, protocol, material), limits)
    try:
        yield pool
    finally:
        await pool.close()


@dataclass(slots=True)
class Proxy:
    """A handler that relays everything to one pool, trying again where that is safe."""

    pool: HttpPool
    clean_end: bool = False
    short: bool = False  # `Coupled` where that will do
    tries: int = 3
    done: list[tuple[Relay | Coupled, Failure | None]] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __call__(self, exchange: Exchange) -> None:
        if self.short and not exchange.body_expected:
            self._go(Coupled(cast(HttpServerStream, exchange), self._done))
            return
        relay = Relay(
            exchange,
            request_filter=REQUEST_FILTER,
            response_filter=RESPONSE_FILTER,
            on_done=self._done,
            clean_end=self.clean_end,
            response_headers=ADDED_TO_RESPONSES,
        )
        self._go(relay)

    def _go(self, relay: Relay | Coupled) -> None:
        link = self.pool.ready()
        if link is not None and isinstance(relay, Relay):
            relay.start(link, b"upstream.test", ADDED_TO_REQUESTS, scheme=self.pool.target.scheme)
            return
        if link is not None and isinstance(relay, Coupled):
            session = cast(HttpClientSession, link)
            relay.start(
                session,
                b"upstream.test",
                REQUEST_FILTER,
                ADDED_TO_REQUESTS,
                RESPONSE_FILTER,
                ADDED_TO_RESPONSES,
                self.clean_end,
            )
            return
        task = asyncio.get_running_loop().create_task(self._dial(relay))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _dial(self, relay: Relay | Coupled) -> None:
        try:
            await self.pool.connect()
        except RequestFailed as error:
            refuse(relay.exchange, error.failure)
            return
        if not relay.exchange.done:
            self._go(relay)

    def _done(self, relay: Relay | Coupled, failure: Failure | None) -> None:
        self.done.append((relay, failure))
        if failure is None or relay.head_sent or relay.exchange.done:
            return
        if relay.replayable and len(self.done) < self.tries:
            self._go(relay)
        else:
            refuse(relay.exchange, failure)


def refuse(exchange: Exchange, failure: Failure) -> None:
    """A gateway's answer."""
    text = f"{failure.fault.name}: {failure.text}".encode()
    exchange.respond(502, [(b"content-length", b"%d" % len(text))])
    exchange.send(text)
    exchange.finish()


class Sink:
    """Reads one response at the pace the test sets."""

    def __init__(self, request: Request, *, greedy: bool = True) -> None:
        self.request = request
        self.greedy = greedy
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0
        self.data = bytearray()
        self.untaken = 0
        self.trailers: Headers | None = None
        self.failure: Failure | None = None
        self.informed: list[int] = []
        self.head = asyncio.Event()
        self.over = asyncio.Event()
        request.on_inform = lambda status, _: self.informed.append(status)
        request.on_head = self._head
        request.on_data = self._data
        request.on_end = self._end
        request.on_failure = self._fail

    def take_all(self) -> None:
        taken, self.untaken = self.untaken, 0
        self.request.take(taken)

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status, self.headers = status, headers
        self.head.set()

    def _data(self, data: bytes) -> None:
        self.size += len(data)
        if self.size < 1 << 20:
            self.data += data
        self.untaken += len(data)
        if self.greedy:
            self.take_all()

    def _end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.over.set()

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self.over.set()
