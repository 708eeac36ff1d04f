"""Accepting TLS connections: the client's first message is read before the handshake and left in the socket.

Its first byte gives a client without TLS a clear end; its server name chooses the context of the handshake.

Invariant: at most `connections_max` sockets are in handshakes; each is over within `handshake_timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from wharf.wire.client_hello import HELLO_MAX, BadHello, hello_length, parse_client_hello
from wharf.wire.tcp import peer_address
from wharf.wire.tls import looks_like_tls

if TYPE_CHECKING:
    from wharf.wire.limits import ConnectionLimits, ListenerLimits

log = logging.getLogger("wharf.wire")
_ACCEPTS_PER_WAKE = 64
_UNREAD_MAX = 65536
_PAUSE = 0.2  # seconds without accepting when file descriptors ran out
_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"  # a fatal alert, RFC 8446 §6.2
_HTTP_TO_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n"
    b"This port speaks TLS; use https.\n"
)


class AcceptCounters(Protocol):
    """What is counted of connections that never came to be."""

    connections_refused: int
    handshakes_failed: int
    wrong_protocol: int


class AcceptHost(Protocol):
    """What an acceptor needs of its server."""

    @property
    def limits(self) -> ConnectionLimits: ...

    @property
    def counters(self) -> AcceptCounters: ...


# The local IP address and the name the client asks for, if any → the context of its handshake.
ChooseContext = Callable[[str, str | None], ssl.SSLContext]


class TlsAcceptor:
    """Accepts on one socket; each connection does its handshake in a task of its own, then lives by callbacks."""

    def __init__(
        self,
        host: AcceptHost,
        sock: socket.socket,
        choose: ChooseContext,
        make: Callable[[], asyncio.Protocol],
        loop: asyncio.AbstractEventLoop,
        limits: ListenerLimits,
    ) -> None:
        self._host = host
        self._sock = sock
        self._choose = choose
        self._make = make
        self._loop = loop
        self._limits = limits
        self._handshakes: set[asyncio.Task[None]] = set()
        self._open = False

    def start(self) -> None:
        """Listen."""
        self._sock.listen(self._limits.backlog)
        self._open = True
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Stop accepting; handshakes under way are dropped."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._sock.close()
            for task in self._handshakes:
                task.cancel()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_WAKE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("cannot accept: %s", error.strerror)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_PAUSE, self._resume)
                return
            if len(self._handshakes) >= self._limits.connections_max:
                self._host.counters.connections_refused += 1
                sock.close()
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._shake(sock))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock, self._accept)

    async def _shake(self, sock: socket.socket) -> None:
        address = ""
        try:
            address = peer_address(sock.getpeername())
            async with asyncio.timeout(self._host.limits.handshake_timeout):
                first = await self._peek(sock)
                if not first:
                    sock.close()
                elif looks_like_tls(first):
                    context = self._choose(sock.getsockname()[0], await self._server_name(sock))
                    await self._loop.connect_accepted_socket(self._make, sock, ssl=context)
                else:
                    self._refuse_plain(sock, address, first)
        except (OSError, TimeoutError, BadHello) as error:  # ssl.SSLError is an OSError
            self._host.counters.handshakes_failed += 1
            why = "not done in time" if isinstance(error, TimeoutError) else str(error) or "closed by the peer"
            if isinstance(error, BadHello):
                _send_last(sock, _DECODE_ERROR)
            log.info("TLS handshake with %s failed: %s", address, why)
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise

    def _refuse_plain(self, sock: socket.socket, address: str, first: bytes) -> None:
        self._host.counters.wrong_protocol += 1
        log.warning("%s speaks no TLS to a port with TLS; check the scheme of its endpoint", address)
        if first[:1].isalpha() and first[:3] != b"PRI":
            _send_last(sock, _HTTP_TO_TLS)
        sock.close()

    async def _peek(self, sock: socket.socket) -> bytes:
        """The first bytes, left in the socket."""
        await self._readable(sock)
        return sock.recv(HELLO_MAX, socket.MSG_PEEK)

    async def _server_name(self, sock: socket.socket) -> str | None:
        """The name in the client's first message, which is left in the socket; None when it holds none.

        BadHello when it is no ClientHello, or not a whole one when the client ends.
        """
        while True:
            data = sock.recv(HELLO_MAX, socket.MSG_PEEK)
            needed = hello_length(data)
            if len(data) >= needed:
                break
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)  # not woken for what is there already
            await self._readable(sock)
            if len(sock.recv(HELLO_MAX, socket.MSG_PEEK)) <= len(data):
                raise BadHello("the client ended its ClientHello early")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return parse_client_hello(data).server_name

    async def _readable(self, sock: socket.socket) -> None:
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock, _wake, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(sock)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _send_last(sock: socket.socket, answer: bytes) -> None:
    """Answer a client whose bytes are dropped: a close with unread bytes would reset the connection before it reads."""
    with contextlib.suppress(OSError):
        sock.recv(_UNREAD_MAX)
        sock.send(answer)
