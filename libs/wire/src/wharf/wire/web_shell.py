"""One client connection of a web server: HTTP/2 by ALPN or by its first bytes, else HTTP/1.1.

Invariant: until its first whole request, and between requests, a connection holds bounded buffers and nothing else, for
a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from wharf.wire.h2 import DRAIN, KEEPALIVE, PARTING_SECONDS, PREFACE, Step, Vitals
from wharf.wire.rpc import Peer
from wharf.wire.server_tls import DynamicTls, chosen_identity
from wharf.wire.session_shell import SessionShell
from wharf.wire.tcp import peer_address
from wharf.wire.tls import looks_like_tls, peer_certificate
from wharf.wire.web_h1 import Http1ServerSession
from wharf.wire.web_h2 import open_server_session

if TYPE_CHECKING:
    from wharf.wire._http import HttpServerSession
    from wharf.wire._nghttp2 import SessionError
    from wharf.wire.limits import ConnectionLimits, Http1Limits
    from wharf.wire.session import WebSession
    from wharf.wire.web import Exchange, Refusal

log = logging.getLogger("wharf.wire")
ROUND_TRIP = 0.2  # seconds between the two GOAWAYs, for requests already on the way
_SNIFF = 4  # "PRI " is no HTTP/1.1 method
Handler = Callable[["Exchange"], None]


class Counters(Protocol):
    """What a connection counts."""

    wrong_protocol: int
    protocol_errors: int
    abuse: int


class Host(Protocol):
    """What a connection needs of its server."""

    limits: ConnectionLimits
    http1_limits: Http1Limits
    handler: Handler
    refusal: Refusal
    tls: DynamicTls | None

    @property
    def counters(self) -> Counters: ...

    def admit(self, connection: WebConnection) -> bool: ...

    def forget(self, connection: WebConnection) -> None: ...


class WebConnection(SessionShell):
    """The protocol object of one accepted connection; what handlers know as `ServedConnection`."""

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, host.limits.write_high, host.limits.write_low)
        self.peer = Peer("")
        self.local_address = ""
        self.version = 0  # not known yet
        self.context: Any = None
        self.identity: str | None = None  # name of the TLS identity it was met with
        self.trust = b""  # digest of the client CAs its certificate was verified against
        self._host = host
        self._http1: Http1ServerSession | None = None
        self._http2: HttpServerSession | None = None
        self._vitals = Vitals(host.limits, loop.time())
        self._first = b""
        self._opened_at = self._active_at = loop.time()
        self._head_since: float | None = None  # HTTP/1.1: a request that has begun, its head not whole yet
        self._draining = False
        self._parting = False
        self._user_timeout = 0.0
        self._leaving = False  # no stream is taken any more: an end from our side

    # --- asyncio's callbacks
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.local_address = peer_address(transport.get_extra_info("sockname"))
        ssl_object = transport.get_extra_info("ssl_object")
        if not self._host.admit(self) or not self._meet(ssl_object):
            self.abort()
            return
        self._user_timeout = self._host.limits.stall_timeout
        self.tune_socket(self._user_timeout)
        agreed = ssl_object.selected_alpn_protocol() if ssl_object is not None else None
        if agreed == "h2":
            self._start_http2()
        elif agreed is not None:
            self._start_http1()

    def data_received(self, data: bytes) -> None:
        if self.session is None:
            self._sniff(data)
            return
        super().data_received(data)
        if self._http1 is not None:
            self._active_at = self._loop.time()
            between = self._http1.held > 0 and self._http1.open_streams == 0
            self._head_since = (self._head_since or self._active_at) if between else None

    def part(self, session: WebSession) -> None:
        """As a gRPC server's connection (shell.py): a peer that said GOAWAY is listened to for a moment longer."""
        if self._http2 is None or not self._http2.goaway_received or session.violation is not None:
            self.close()
        elif not self._parting:
            self._parting = True
            self._loop.call_later(PARTING_SECONDS, self.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._host.forget(self)
        super().connection_lost(error)
        self._http1 = self._http2 = None

    # --- which protocol, and with whom
    def _meet(self, ssl_object: Any) -> bool:
        """Note who is at the other end; False: not to be talked to."""
        if ssl_object is None:
            self.peer = Peer(self.address)
            return True
        certificate = peer_certificate(ssl_object)
        self.peer = Peer(self.address, certificate, getattr(ssl_object, "wharf_server_name", None))
        identity = chosen_identity(ssl_object)
        if identity is not None:
            self.identity, self.trust = identity.name, identity.trust
            tls = self._host.tls
            if certificate is not None and tls is not None and not tls.trusts(identity):
                log.info("%s was verified against client CAs that changed meanwhile", self.address)
                return False
        return True

    def _sniff(self, data: bytes) -> None:
        data = self._first + data
        if data[:_SNIFF] == PREFACE[: len(data[:_SNIFF])]:
            if len(data) < _SNIFF:
                self._first = data
                return
            self._start_http2()
        elif looks_like_tls(data):
            self._host.counters.wrong_protocol += 1
            log.warning("%s speaks TLS to a port without TLS; check the scheme of its endpoint", self.address)
            self.abort()
            return
        else:
            self._start_http1()
        self._first = b""
        self.data_received(data)

    def _start_http2(self) -> None:
        self.version = 2
        session = open_server_session(self._host.handler, self, self._host.limits, self._loop.time, self._host.refusal)
        self._http2 = session
        self.attach(session)
        if self._draining:
            session.announce_shutdown()
        session.pump()

    def _start_http1(self) -> None:
        self.version = 1
        session = self._http1 = Http1ServerSession(
            self._host.handler, self, self._host.http1_limits, self._host.refusal
        )
        self.attach(session)
        if self._draining:
            session.announce_shutdown()

    # --- its life
    def ending(self, session: WebSession) -> None:
        if session.violation is None:
            if self._http2 is not None and not (
                self._leaving or self._http2.eof_received or self._http2.goaway_received
            ):
                self._host.counters.protocol_errors += 1
                log.info("%s broke HTTP/2 and was told so", self.address)
            return
        if self._http1 is not None:
            self._host.counters.protocol_errors += 1
            log.info("%s broke HTTP/1.1: %s", self.address, session.violation)
        else:
            self._host.counters.abuse += 1
            log.warning("%s is disconnected: %s", self.address, session.violation)

    def broken(self, error: SessionError) -> None:
        self._leaving = True
        self._host.counters.protocol_errors += 1
        log.info("%s broke HTTP/2: %s", self.address, error)

    def tick(self, now: float) -> None:
        """A look at the clock: pings, timeouts."""
        limits = self._host.limits
        if self._http1 is not None and self._http1.tunnel is not None and not self._patient:
            self.trust_reader()
        why = self.overdue(now, self._stall_timeout(), limits.close_timeout)
        if why:
            self._drop(why)
        elif self.closing_since:
            pass
        elif self._http2 is not None:
            self._tick_http2(self._http2, self._vitals, now)
        elif self._http1 is not None:
            self._tick_http1(self._http1.open_streams, self._http1.bytes_out, now)
        elif now - self._opened_at > limits.preface_timeout:
            self._drop("it said nothing in time")

    def _stall_timeout(self) -> float:
        """The longest of the exchanges under way, else the server's.

        The kernel, which knows a shut window too, waits no less.
        """
        limit = self._host.limits.stall_timeout
        seconds = 0.0
        if self._http2 is not None:
            seconds = self._http2.stall_timeout(limit)
        elif self._http1 is not None:
            seconds = self._http1.reader_timeout
        if seconds > self._user_timeout and not self._patient:
            self._user_timeout = seconds
            self.tune_socket(seconds)
        return seconds or limit

    def _tick_http2(self, session: HttpServerSession, vitals: Vitals, now: float) -> None:
        if not self.stalled_since:  # else no stream moves, whether it has a window or not
            stalled = session.drop_stalled(now, self._host.limits.reader_timeout)
            if stalled:
                log.info("%d responses to %s are reset: the client opens no window for them", stalled, self.address)
        step = vitals.look(session, now)
        if step is Step.PING:
            session.ping(KEEPALIVE)
        elif step is Step.CLOSE_IDLE:
            self._leaving = True
            session.refuse_streams()
            session.pump()
            self.close()
        elif step is not None:
            self._drop(step.value)

    def _tick_http1(self, open_streams: int, bytes_out: int, now: float) -> None:
        limits = self._host.limits
        if open_streams:
            self._active_at = now
        elif self._head_since is not None:
            if now - self._head_since > limits.block_timeout:
                self._drop("request head not ended in time")
        elif not bytes_out and now - self._opened_at > limits.preface_timeout:
            self._drop("it sent no request in time")
        elif now - self._active_at > limits.http1_idle_timeout:
            self.close()

    def _drop(self, why: str) -> None:
        log.info("%s is disconnected: %s", self.address, why)
        if self._http1 is not None:
            self._http1.cut()  # what it sent and nobody has taken goes with it
        self.abort()

    # --- the server's commands
    @property
    def open_exchanges(self) -> int:
        """Requests under way, tunnels included."""
        return self.session.open_streams if self.session is not None else 0

    def send_away(self) -> None:
        """Ask the client to come again on another connection; what is under way here goes on. Once, whoever asks.

        Soon, not now: it may be called by a handler while the session is at work.
        """
        if not self._draining:
            self._draining = True
            self._loop.call_soon(self.start_drain)
            self._loop.call_later(ROUND_TRIP, self.finish_drain)

    def start_drain(self) -> None:
        """Ask the client to reconnect: GOAWAY, or `connection: close` on what is answered from now on."""
        self._draining = True
        if self.session is None:
            return
        self.session.announce_shutdown()
        if self._http2 is not None:
            self._http2.ping(DRAIN)
        elif self.session.open_streams == 0 and self._head_since is None:
            self.close()
        self.session.pump()

    def finish_drain(self) -> None:
        """Streams not seen by now are refused; the connection ends with its last exchange."""
        self._leaving = True
        if self.session is None:
            self.close()
        else:
            self.session.refuse_streams()
            self.session.pump()
