"""A server: listens, accepts, drains, stops. One port speaks gRPC over HTTP/2 (ALPN or prior knowledge) and HTTP/1.1.

Invariant: every accepted socket is either a `Connection` in `connections`, a handshake in `_handshakes`, or closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wharf.wire._grpc import CallSettings, Route
from wharf.wire.accept import TlsAcceptor
from wharf.wire.h2 import plain_responder
from wharf.wire.http import HttpHandler, HttpRequest, Mount, answer_unserved
from wharf.wire.limits import ConnectionLimits, ListenerLimits
from wharf.wire.rpc import Call, Kind, Method, RpcLimits
from wharf.wire.shell import Connection
from wharf.wire.tcp import bind_tcp
from wharf.wire.telemetry import Counters, Totals
from wharf.wire.timers import Ticker, attempt
from wharf.wire.tls import TlsConfig, TlsStore
from wharf.wire.unix import bind_unix, remove_socket_file

log = logging.getLogger("wharf.wire")
_TICK_MAX = 2.0  # seconds between looks at all connections; shorter when a timeout asks for it
_DRAIN_ROUND_TRIP = 0.1  # seconds between the two GOAWAYs, for streams already on the way


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Where to listen and how."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one; `GrpcServer.ports` tells which
    unix_path: str | None = None  # a socket file instead of host and port; without `tls`
    reuse_port: bool = False  # other sockets of this user that say so too may listen on the port; each gets its share
    tls: TlsConfig | None = None
    limits: ListenerLimits = field(default_factory=ListenerLimits)


class GrpcServer:
    """Serves a method table, and plain HTTP beside it, on any number of listeners."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        listeners: Sequence[ListenerConfig],
        *,
        http: HttpHandler | None = None,
        mount: Mount | None = None,
        rpc_limits: RpcLimits | None = None,
        limits: ConnectionLimits | None = None,
        on_start: Callable[[Call], None] | None = None,
        on_end: Callable[[Call, int], None] | None = None,
    ) -> None:
        self.limits = limits or ConnectionLimits()
        self.http = http or answer_unserved
        self.mount = mount
        routes = {path: Route(path, method.kind is Kind.UNARY, method.handler) for path, method in methods.items()}
        self.calls = CallSettings(
            {path.encode(): route for path, route in routes.items()}, rpc_limits or RpcLimits(), self.limits, mount
        )
        self.calls.on_start, self.calls.on_end = on_start, on_end
        self.calls.on_plain = plain_responder(self.http, _report_failure, mount)
        self.counters = Counters(routes=routes)
        self.connections: set[Connection] = set()
        self.ports: list[int] = []  # of the TCP listeners, in order
        self._listeners = listeners
        self._connections_max = min((item.limits.connections_max for item in listeners), default=0)
        self._servers: list[asyncio.Server | TlsAcceptor] = []
        self._ticker: Ticker | None = None
        self._socket_files: dict[str, int] = {}  # path → inode of each that this server made
        self._emptied = asyncio.Event()
        shortest = min(
            self.limits.preface_timeout,
            self.limits.block_timeout,
            self.limits.idle_timeout,
            self.limits.stall_timeout,
            self.limits.close_timeout,
            self.limits.keepalive_interval,
            self.limits.keepalive_timeout,
        )
        self._tick_interval = min(_TICK_MAX, shortest / 2)

    async def start(self) -> None:
        """Bind and accept. OSError when an address cannot be had, TlsError when a certificate cannot be used."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            store = TlsStore(listener.tls) if listener.tls is not None else None
            sock = bind(listener)
            if listener.unix_path is None:
                self.ports.append(sock.getsockname()[1])
            else:
                self._socket_files[listener.unix_path] = os.stat(listener.unix_path).st_ino
            if store is None:
                factory = self._make_connection
                backlog = listener.limits.backlog
                if listener.unix_path is None:
                    self._servers.append(await loop.create_server(factory, sock=sock, backlog=backlog))
                else:
                    self._servers.append(await loop.create_unix_server(factory, sock=sock, backlog=backlog))
            else:
                acceptor = self._tls_acceptor(sock, store, listener.limits)
                acceptor.start()
                self._servers.append(acceptor)
        self._ticker = Ticker("look at the timeouts of connections", lambda: self._tick_interval, self._tick)

    async def drain(self, grace: float) -> None:
        """Stop accepting, let calls finish for `grace` seconds, then end what is left."""
        self._stop_listening()
        for connection in list(self.connections):
            connection.start_drain()
        if self.connections:
            await asyncio.sleep(min(_DRAIN_ROUND_TRIP, grace))
        for connection in list(self.connections):
            connection.finish_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._wait_empty()
        await self.close()

    async def close(self) -> None:
        """End every call and connection now."""
        self._stop_listening()
        if self._ticker is not None:
            self._ticker.close()
            self._ticker = None
        for connection in list(self.connections):
            connection.cancel_calls()
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._wait_empty()
        for connection in list(self.connections):
            connection.abort()
        await self._wait_empty()

    @property
    def listening(self) -> bool:
        """Whether new connections are taken."""
        return bool(self._servers)

    def totals(self) -> Totals:
        """Traffic up to now; walks the open connections."""
        sessions = [item.session for item in self.connections if item.session is not None]
        counters = self.counters
        return Totals(
            bytes_in=counters.closed_bytes_in + sum(item.bytes_in for item in sessions),
            bytes_out=counters.closed_bytes_out + counters.plain_bytes_out + sum(item.bytes_out for item in sessions),
            streams_opened=counters.closed_streams + sum(item.streams_opened for item in sessions),
            streams_open=sum(len(item.streams) for item in sessions),
        )

    # --- for connections (shell.Host)
    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, unless there are too many."""
        if len(self.connections) >= self._connections_max:
            self.counters.connections_refused += 1
            return False
        self.connections.add(connection)
        self.counters.connections_accepted += 1
        self.counters.connections_open += 1
        self._emptied.clear()
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self.counters.connections_open -= 1
        if connection.session is not None:
            self.counters.add_closed(connection.session)
        if not self.connections:
            self._emptied.set()

    def _make_connection(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    def _tls_acceptor(self, sock: socket.socket, store: TlsStore, limits: ListenerLimits) -> TlsAcceptor:
        loop = asyncio.get_running_loop()
        return TlsAcceptor(self, sock, lambda _, name: store.context(name), self._make_connection, loop, limits)

    async def _wait_empty(self) -> None:
        while self.connections:
            self._emptied.clear()
            await self._emptied.wait()

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path, inode in self._socket_files.items():
            remove_socket_file(path, inode)
        self._socket_files.clear()

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            if not attempt("look at the timeouts of a connection", connection.tick, now):
                connection.abort()  # without timeouts it would be held for ever


def bind(listener: ListenerConfig) -> socket.socket:
    """A bound, non-blocking socket."""
    if listener.unix_path is not None:
        sock = bind_unix(listener.unix_path)
    else:
        sock = bind_tcp(listener.host, listener.port, listener.reuse_port)
    sock.setblocking(False)
    return sock


async def serve(
    methods: Mapping[str, Method], *listeners: ListenerConfig, http: HttpHandler | None = None
) -> GrpcServer:
    """Start a server with default limits."""
    server = GrpcServer(methods, listeners, http=http)
    await server.start()
    return server


def _report_failure(request: HttpRequest, error: Exception) -> None:
    log.error("handler of %s failed", request.path, exc_info=error)
