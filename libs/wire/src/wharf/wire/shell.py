"""One server connection on asyncio.

It tells HTTP/2 from HTTP/1.1 by its first bytes (or ALPN), feeds the core and obeys the transport.

Invariant: at most `write_high` plus one chunk of bytes wait in the transport; everything else waits framed by nobody.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, cast

from wharf.wire._grpc import ServerSession
from wharf.wire._nghttp2 import SessionError
from wharf.wire.h1 import open_plain_session
from wharf.wire.h2 import DRAIN, KEEPALIVE, PARTING_SECONDS, PREFACE, Step, Vitals, open_server_session
from wharf.wire.rpc import Code, Peer
from wharf.wire.tcp import bytes_acked, is_gone, peer_address, tune
from wharf.wire.timers import attempt
from wharf.wire.tls import looks_like_tls, peer_certificate

if TYPE_CHECKING:
    from wharf.wire._grpc import CallSettings
    from wharf.wire.http import HttpHandler, Mount
    from wharf.wire.limits import ConnectionLimits
    from wharf.wire.telemetry import Counters
    from wharf.wire.web_h1 import Http1ServerSession

log = logging.getLogger("wharf.wire")
_SNIFF = 4  # "PRI " is no HTTP/1.1 method


class Host(Protocol):
    """What a connection needs of its server."""

    limits: ConnectionLimits
    calls: CallSettings
    http: HttpHandler
    mount: Mount | None
    counters: Counters

    def admit(self, connection: Connection) -> bool: ...

    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol object of one accepted connection."""

    session: ServerSession | None = None

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = Peer("")
        self._host = host
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._http1: Http1ServerSession | None = None
        self._first = b""
        self._vitals = Vitals(host.limits, loop.time())
        self._opened_at = self._active_at = loop.time()
        self._head_since: float | None = None  # HTTP/1.1: a request that has begun, its head not whole yet
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._draining = False
        self._stalled_at = 0.0  # loop time, of the last bytes the peer took; 0: the transport takes bytes
        self._acked = -1  # bytes the peer had taken when the transport was looked at last
        self._closing_at = 0.0
        self._parting = False
        self._reading_paused = False

    # --- asyncio's callbacks
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        limits = self._host.limits
        self._transport.set_write_buffer_limits(limits.write_high, limits.write_low)
        ssl_object = transport.get_extra_info("ssl_object")
        certificate = peer_certificate(ssl_object) if ssl_object else None
        server_name = getattr(ssl_object, "wharf_server_name", None)
        self.peer = Peer(peer_address(transport.get_extra_info("peername")), certificate, server_name)
        if not self._host.admit(self):
            self._transport.abort()
            return
        if ssl_object is not None and not ssl_object.context.identity.admits(certificate):
            log.warning(
                "%s showed no client certificate that %s admits", self.peer.address, server_name or "the server"
            )
            self._transport.abort()
            return
        if ssl_object and ssl_object.selected_alpn_protocol() == "h2":
            self._start_http2(b"")

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            try:
                session.receive(data)
            except SessionError as error:
                self._host.counters.protocol_errors += 1
                log.info("%s broke HTTP/2: %s", self.peer.address, error)
                session.pump()
                self.close()
                return
            except Exception:
                log.exception("connection of %s fails", self.peer.address)
                self.abort()
                return
            session.pump()
        elif self._http1 is not None:
            self._receive_http1(self._http1, data)
        else:
            self._sniff(data)

    def pause_writing(self) -> None:
        self._stalled_at = self._loop.time()
        for session in (self.session, self._http1):
            if session is not None:
                session.paused = True

    def resume_writing(self) -> None:
        self._stalled_at = 0.0
        for session in (self.session, self._http1):
            if session is not None:
                session.paused = False
                session.pump()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.forget(self)
        self._transport = None
        session, self.session = self.session, None
        http1, self._http1 = self._http1, None
        if session is not None:
            session.close()
        if http1 is not None:
            http1.close(error)

    # --- which protocol
    def _sniff(self, data: bytes) -> None:
        data = self._first + data
        if data[:_SNIFF] == PREFACE[: len(data[:_SNIFF])]:
            if len(data) < _SNIFF:
                self._first = data
                return
            self._first = b""
            self._start_http2(data)
        elif looks_like_tls(data):
            self._host.counters.wrong_protocol += 1
            log.warning("%s speaks TLS to a port without TLS; check the scheme of its endpoint", self.peer.address)
            self.abort()
        else:
            self._first = b""
            self._receive_http1(self._start_http1(), data)

    def _start_http2(self, data: bytes) -> None:
        session = open_server_session(self._host.calls, self._host.limits, self.peer, self._loop.time)
        session.write = cast(asyncio.Transport, self._transport).write
        session.call_soon = self._loop.call_soon
        session.on_pumped = self._after_pump
        session.on_deadline = self._arm
        session.paused = False
        self.session = session
        if self._draining:
            session.announce_shutdown()
        if data:
            self.data_received(data)
        else:
            session.pump()

    # --- HTTP/2
    def _after_pump(self) -> None:
        session = self.session
        if session is None or not session.terminating:
            return
        self._closing_at = self._closing_at or self._loop.time()
        if not session.finished:
            return  # its last words wait for the transport
        if session.violation is not None:
            self._host.counters.abuse += 1
            log.warning("%s is disconnected: %s", self.peer.address, session.violation)
        elif session.goaway_received:
            # What the peer sends behind its GOAWAY is still read: left unread it would turn the end into a reset.
            if not self._parting:
                self._parting = True
                self._loop.call_later(PARTING_SECONDS, self.close)
            return
        self.close()

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        session = self.session
        if session is None:
            return
        if not attempt("end calls whose deadline has passed", self._end_late_calls, session):
            self.abort()  # without deadlines it would be held for ever
        elif session.next_deadline < 1e299:
            self._arm(max(session.next_deadline, self._loop.time() + 0.002))

    def _end_late_calls(self, session: ServerSession) -> None:
        session.expire(self._loop.time())
        session.pump()

    # --- HTTP/1.1
    def _start_http1(self) -> Http1ServerSession:
        session = self._http1 = open_plain_session(self._host.http, self._host.limits, self.peer, self._host.mount)
        session.write, session.port, session.call_soon = self._write, self, self._loop.call_soon
        session.on_pumped = self._after_http1_pump
        session.paused = bool(self._stalled_at)
        if self._draining:
            session.announce_shutdown()
        if self._transport is not None:  # a client that vanished behind an answer without end is found by the kernel
            tune(self._transport.get_extra_info("socket"), self._host.limits.stall_timeout)
        return session

    def _receive_http1(self, session: Http1ServerSession, data: bytes) -> None:
        self._active_at = self._loop.time()
        session.receive(data)
        session.pump()
        between = session.held > 0 and session.open_streams == 0
        self._head_since = (self._head_since or self._active_at) if between else None

    def _after_http1_pump(self) -> None:
        session = self._http1
        if session is None or not session.terminating:
            return
        if not self._closing_at:
            self._closing_at = self._loop.time()
            if session.violation is not None:
                self._host.counters.protocol_errors += 1
                log.info("%s broke HTTP/1.1: %s", self.peer.address, session.violation)
        if session.finished:
            self.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._host.counters.plain_bytes_out += len(data)
            self._transport.write(data)

    # --- what an HTTP/1.1 session asks of its transport (session.Port)
    @property
    def unsent(self) -> int:
        """Bytes the transport still holds."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def pause_reading(self) -> None:
        """Feed nothing until `resume_reading`."""
        self._reading_paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Feed again."""
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def write_eof(self) -> None:
        """Send no more, go on reading; TLS transports cannot say so."""
        if self._transport is not None and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    # --- the server's commands
    def tick(self, now: float) -> None:
        """A look at the clock: pings, timeouts."""
        limits = self._host.limits
        if self._closing_at:
            if now - self._closing_at > limits.close_timeout:
                self.abort()
        elif self._stalled_at and self._takes_nothing(now):
            log.info("%s is disconnected: it takes no bytes", self.peer.address)
            self.abort()
        elif self.session is not None:
            step = self._vitals.look(self.session, now)
            if step is Step.PING:
                self.session.ping(KEEPALIVE)
            elif step is Step.CLOSE_IDLE:
                self.session.refuse_streams()
                self.session.pump()
                self.close()
            elif step is not None:
                log.info("%s is disconnected: %s", self.peer.address, step.value)
                self.abort()
        elif self._http1 is not None:
            self._tick_http1(self._http1, now)
        elif now - self._opened_at > limits.preface_timeout:
            log.info("%s said nothing in time", self.peer.address)
            self.abort()

    def _tick_http1(self, session: Http1ServerSession, now: float) -> None:
        """Idle is a connection without a whole request that waits for its answer."""
        limits, transport = self._host.limits, self._transport
        if self._head_since is not None and now - self._head_since > limits.block_timeout:
            log.info("%s is disconnected: request head not ended in time", self.peer.address)
            self.abort()
        elif self._reading_paused and transport is not None and is_gone(transport.get_extra_info("socket")):
            self.abort()
        elif session.answering:
            self._active_at = now
        elif now - self._active_at > limits.http1_idle_timeout:
            self.close()

    def _takes_nothing(self, now: float) -> bool:
        acked = bytes_acked(self._transport.get_extra_info("socket")) if self._transport is not None else -1
        if acked != self._acked:
            self._acked, self._stalled_at = acked, now  # it is slow, and takes some
        return now - self._stalled_at > self._host.limits.stall_timeout

    def start_drain(self) -> None:
        """Ask the client to open no more streams; the second GOAWAY follows by `finish_drain`."""
        self._draining = True
        if self.session is not None:
            self.session.announce_shutdown()
            self.session.ping(DRAIN)
        elif self._http1 is not None and self._http1.answering:
            self._http1.announce_shutdown()
        else:
            self.close()

    def finish_drain(self) -> None:
        """Streams not seen by now are refused; the connection ends with its last stream."""
        if self.session is not None:
            self.session.refuse_streams()
        elif self._http1 is not None:
            self._http1.refuse_streams()
            self._http1.pump()

    def cancel_calls(self) -> None:
        """End every call: the server stops."""
        if self.session is not None:
            self.session.abort_calls(Code.UNAVAILABLE, "server is shutting down")
            self.session.pump()

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written is out."""
        if self._transport is not None and not self._transport.is_closing():
            self._closing_at = self._closing_at or self._loop.time()
            self._transport.close()
