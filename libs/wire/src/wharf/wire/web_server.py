"""A web server: listens, accepts, drains, stops. One port speaks HTTP/2 and HTTP/1.1, with TLS or without.

Invariant: every accepted socket is a `WebConnection` in `connections`, a handshake of an acceptor's, or closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wharf.wire.accept import TlsAcceptor
from wharf.wire.limits import ConnectionLimits, Http1Limits, ListenerLimits
from wharf.wire.server_tls import DynamicTls
from wharf.wire.tcp import bind_tcp
from wharf.wire.timers import Ticker, attempt
from wharf.wire.web import Refusal, plain_refusal
from wharf.wire.web_shell import Handler, WebConnection

_TICK_MAX = 1.0  # seconds between looks at all connections; shorter when a timeout asks for it

# Clients of a web server vanish behind routers; thousands of their watches would be held for nothing.
WEB_LIMITS = replace(ConnectionLimits(), keepalive_interval=30.0, keepalive_timeout=15.0)


@dataclass(frozen=True, slots=True)
class WebListener:
    """Where to listen."""

    host: str = "127.0.0.1"  # empty: every address
    port: int = 0  # 0: any free one; `WebServer.ports` tells which
    tls: bool = True  # when the server has identities
    reuse_port: bool = False  # other processes of this user may share the port
    limits: ListenerLimits = field(default_factory=ListenerLimits)


@dataclass(slots=True)
class WebCounters:
    """Counts since the server started; `connections_open` is a level."""

    connections_accepted: int = 0
    connections_refused: int = 0  # beyond connections_max
    connections_open: int = 0
    handshakes_failed: int = 0
    wrong_protocol: int = 0  # TLS to a plain port or the reverse
    protocol_errors: int = 0
    abuse: int = 0  # connections ended by a limit
    closed_bytes_in: int = 0  # of connections that are gone
    closed_bytes_out: int = 0


class WebServer:
    """Hands every request of every listener to one handler, called on the loop thread."""

    def __init__(
        self,
        handler: Handler,
        listeners: Sequence[WebListener],
        *,
        tls: DynamicTls | None = None,
        limits: ConnectionLimits = WEB_LIMITS,
        http1_limits: Http1Limits | None = None,
        refusal: Refusal = plain_refusal,
    ) -> None:
        """`refusal` makes the answers to requests that are refused before `handler` sees them."""
        self.handler = handler
        self.refusal = refusal
        self.limits = limits
        self.http1_limits = http1_limits or Http1Limits()
        self.tls = tls
        self.counters = WebCounters()
        self.connections: set[WebConnection] = set()
        self.ports: list[int] = []  # of the listeners, in order
        self._listeners = listeners
        self._connections_max = min((item.limits.connections_max for item in listeners), default=0)
        self._servers: list[asyncio.Server | TlsAcceptor] = []
        self._ticker: Ticker | None = None
        self._emptied = asyncio.Event()
        shortest = min(
            limits.preface_timeout,
            limits.block_timeout,
            limits.idle_timeout,
            limits.http1_idle_timeout,
            limits.stall_timeout,
            limits.close_timeout,
            limits.keepalive_interval,
            limits.keepalive_timeout,
        )
        self._tick_interval = min(_TICK_MAX, shortest / 2)

    async def start(self) -> None:
        """Bind and accept. OSError when an address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            for listener in self._listeners:
                sock = bind_tcp(listener.host, listener.port, listener.reuse_port)
                self.ports.append(sock.getsockname()[1])
                self._servers.append(await self._listen(sock, listener, loop))
        except BaseException:
            self.stop_accepting()
            raise
        self._ticker = Ticker("look at the timeouts of connections", lambda: self._tick_interval, self._tick)

    # --- its end
    @property
    def listening(self) -> bool:
        """Whether new connections are taken."""
        return bool(self._servers)

    @property
    def open_exchanges(self) -> int:
        """Requests under way on all connections, tunnels included."""
        return sum(connection.open_exchanges for connection in self.connections)

    def stop_accepting(self) -> None:
        """Close the listeners; connections live on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def start_drain(self) -> None:
        """Ask every client to reconnect elsewhere: first GOAWAY, `connection: close`."""
        for connection in list(self.connections):
            connection.start_drain()

    def finish_drain(self) -> None:
        """After a round trip: streams not seen by now are refused, connections end with their last exchange."""
        for connection in list(self.connections):
            connection.finish_drain()

    async def closed(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - False, no exception
        """Wait until every connection is gone; False when some are left after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.connections:
                    self._emptied.clear()
                    await self._emptied.wait()
        return not self.connections

    def abort_all(self) -> None:
        """Drop every connection now."""
        for connection in list(self.connections):
            connection.abort()

    async def close(self) -> None:
        """End everything now."""
        self.stop_accepting()
        if self._ticker is not None:
            self._ticker.close()
            self._ticker = None
        self.abort_all()
        await self.closed()

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent up to now; walks the open connections."""
        sessions = [item.session for item in self.connections if item.session is not None]
        return (
            self.counters.closed_bytes_in + sum(item.bytes_in for item in sessions),
            self.counters.closed_bytes_out + sum(item.bytes_out for item in sessions),
        )

    # --- for connections (web_shell.Host)
    def admit(self, connection: WebConnection) -> bool:
        """Take a new connection in, unless there are too many."""
        if len(self.connections) >= self._connections_max:
            self.counters.connections_refused += 1
            return False
        self.connections.add(connection)
        self.counters.connections_accepted += 1
        self.counters.connections_open += 1
        return True

    def forget(self, connection: WebConnection) -> None:
        """A connection is gone."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self.counters.connections_open -= 1
        if connection.session is not None:
            self.counters.closed_bytes_in += connection.session.bytes_in
            self.counters.closed_bytes_out += connection.session.bytes_out
        if not self.connections:
            self._emptied.set()

    # --- inside
    async def _listen(
        self, sock: socket.socket, listener: WebListener, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Server | TlsAcceptor:
        def make() -> WebConnection:
            return WebConnection(self, loop)

        if self.tls is None or not listener.tls:
            return await loop.create_server(make, sock=sock, backlog=listener.limits.backlog)
        acceptor = TlsAcceptor(self, sock, self.tls.base, make, loop, listener.limits)
        acceptor.start()
        return acceptor

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            if not attempt("look at the timeouts of a connection", connection.tick, now):
                connection.abort()  # without timeouts it would be held for ever
