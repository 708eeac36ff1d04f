"""One connection to an upstream: dialled, its protocol agreed on, watched for silence, closed when it is not needed.

Invariant: an owner hears of a connection's end exactly once, and only of connections it was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

from wharf.wire.limits import ClientLimits
from wharf.wire.pem import load_authorities, load_pair
from wharf.wire.pool import HTTP1, HTTP2, Life, PoolLimits, Silence
from wharf.wire.session_shell import SessionShell
from wharf.wire.tcp import dial
from wharf.wire.web import Failure, Fault, Link
from wharf.wire.web_h1_client import Http1ClientSession
from wharf.wire.web_h2 import open_client_session

if TYPE_CHECKING:
    from wharf.wire._http import HttpClientSession

log = logging.getLogger("wharf.wire")
_EARLY_ENDS = 2  # in a row, that say nothing about the next connection
_HTTP2_LIMITS = ClientLimits()
# No file descriptor, buffer or local port is free here; the upstream was not even asked.
_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
KEEPALIVE = b"wharf-ka"
ProtocolName = Literal["auto", "h2", "http1"]
_ALPN: dict[str, list[str]] = {"auto": ["h2", "http/1.1"], "h2": ["h2"], "http1": ["http/1.1"]}


class _EarlyEndError(ConnectionResetError):
    """A connection that ended before it could be used: its server drains, or a balancer had it on a list too long."""


class RequestFailed(Exception):
    """No connection, or no whole response; `failure` says what is known."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and how."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""  # SNI, and the name to verify; empty: the host
    protocol: ProtocolName = "auto"  # without TLS, "auto" is HTTP/1.1; with it, what `tls` was built for

    @property
    def authority(self) -> bytes:
        """Host and port, as requests name them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()

    @property
    def scheme(self) -> bytes:
        return b"https" if self.tls is not None else b"http"


def client_context(
    ca_pem: bytes | None,
    cert_pem: bytes = b"",
    key_pem: bytes = b"",
    *,
    insecure: bool = False,
    protocol: ProtocolName = "auto",
    name: str = "upstream",
) -> ssl.SSLContext:
    """TLS towards an upstream, from memory. No CA: the system's. TlsError, naming `name`, when the PEM is unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN[protocol])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_pem is None:
        context.load_default_certs()
    else:
        load_authorities(context, ca_pem, name)
    if cert_pem or key_pem:
        load_pair(context, cert_pem, key_pem, name)
    return context


class Owner(Protocol):
    """The pool of a connection."""

    waiting: OrderedDict[asyncio.Future[None], None]
    full: bool  # it wants to know of the next connection with room

    def moved(self, connection: ClientConnection) -> None:
        """Something was received or sent: there may be room again."""

    def lost(self, connection: ClientConnection) -> None: ...


class ClientConnection(SessionShell):
    """A connection that carries requests; its session is the `Link`."""

    link: Link | None = None
    version = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: PoolLimits) -> None:
        super().__init__(loop, write_high=256 * 1024, write_low=64 * 1024)
        self.owner: Owner | None = None
        self.ended_busy = False  # lost while it carried requests
        self.idle_since: float | None = None
        self.draining = False  # takes no more requests, closes after its last
        self.error: Exception | None = None  # why it was lost
        self.usable: asyncio.Future[None] = loop.create_future()  # requests can be made
        self._limits = limits
        self._silence = Silence(limits, loop.time())

    @property
    def capacity(self) -> int:
        """How many more requests it takes now."""
        return 0 if self.link is None or self.draining else self.link.capacity

    @property
    def going_away(self) -> bool:
        """Whether its peer wants no more requests on it."""
        session = self.session
        return session is None or session.terminating or getattr(session, "goaway_received", False)

    @property
    def open_requests(self) -> int:
        return 0 if self.link is None else self.link.open_requests

    # --- its life
    def start(self, version: int) -> None:
        """Speak this version."""
        self.version = version
        if version == HTTP2:
            self._carry(open_client_session(_HTTP2_LIMITS, self._loop.time))
        else:
            self._carry(Http1ClientSession())

    def _carry(self, session: HttpClientSession | Http1ClientSession) -> None:
        self.attach(session)
        self.link = session
        session.pump()

    def pumped(self) -> None:
        link = self.link
        if link is None:
            return
        if link.open_requests:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self._loop.time()
            if self.draining:
                self.close()
        owner = self.owner
        if owner is not None and link.capacity > 0 and not owner.waiting and not owner.full:
            return  # the usual case, four times a request: nothing that anybody wants to know
        if not self.usable.done() and link.capacity > 0:
            self.usable.set_result(None)
        super().pumped()
        if owner is not None:
            owner.moved(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.ended_busy = self.open_requests > 0
        self.link = None
        super().connection_lost(error)
        if not self.usable.done():
            self.usable.set_exception(_EarlyEndError("closed by the peer"))
            self.usable.exception()  # nobody may be waiting
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(self)

    def tick(self, now: float) -> None:
        """A look at the clock: pings, a transport that does not move."""
        why = self.overdue(now, self._limits.stall_timeout, self._limits.close_timeout)
        if not why and self.version == HTTP2 and self.session is not None:
            life = self._silence.look(self.session.bytes_in, now)
            if life is Life.ASK:
                cast("HttpClientSession", self.session).ping(KEEPALIVE)
            elif life is Life.DEAD:
                why = "it does not answer a ping"
        if why:
            log.warning("connection to %s is given up: %s", self.address, why)
            self.abort()

    def drain(self) -> None:
        """Take no more requests; close after the last."""
        self.draining = True
        if not self.open_requests:
            self.close()


async def open_connection(target: Target, limits: PoolLimits) -> ClientConnection:
    """A connection that takes requests. RequestFailed: UNSENT, or FULL if this machine has no socket for it."""
    where = f"{target.host}:{target.port}"
    try:
        async with asyncio.timeout(limits.connect_timeout):
            for _ in range(_EARLY_ENDS):
                with contextlib.suppress(_EarlyEndError):
                    return await _open_usable(target, limits)
            return await _open_usable(target, limits)
    except TimeoutError:
        text = f"{where}: not connected within {limits.connect_timeout:g} s"
        raise RequestFailed(Failure(Fault.UNSENT, text)) from None
    except OSError as error:
        fault = Fault.FULL if error.errno in _OWN_LIMITS else Fault.UNSENT
        raise RequestFailed(Failure(fault, f"{where}: {_reason(error)}")) from error


async def _open_usable(target: Target, limits: PoolLimits) -> ClientConnection:
    connection = await _connect(target, limits)
    try:
        connection.start(_agreed(target, connection))
        await connection.usable
        if connection.going_away:
            raise _EarlyEndError("closed at once by the peer")
    except BaseException:
        connection.abort()
        raise
    return connection


async def _connect(target: Target, limits: PoolLimits) -> ClientConnection:
    loop = asyncio.get_running_loop()
    sock = await dial(target.host, target.port)
    try:
        _, connection = await loop.create_connection(
            lambda: ClientConnection(loop, limits),
            sock=sock,
            ssl=target.tls,
            server_hostname=(target.server_name or target.host) if target.tls is not None else None,
        )
    except BaseException:
        sock.close()
        raise
    connection.tune_socket(limits.ping_interval + limits.ping_timeout)
    return connection


def _agreed(target: Target, connection: ClientConnection) -> int:
    """The version to speak; ConnectionError when the upstream does not speak the one that is wanted."""
    if target.tls is None or target.protocol == "http1":
        return HTTP2 if target.protocol == "h2" else HTTP1
    transport = connection.transport
    if transport is None:
        raise _EarlyEndError("closed by the peer")
    if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
        return HTTP2
    if target.protocol == "h2":
        raise ConnectionError("the server does not speak HTTP/2")
    return HTTP1


def _reason(error: OSError) -> str:
    """What a person wants to read of an error of the network or of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts words of its own in its place
    return error.strerror or str(error) or type(error).__name__
