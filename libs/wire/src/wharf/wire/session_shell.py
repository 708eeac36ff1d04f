"""One connection on asyncio, either role: bytes between a transport and a session, and the end of both.

Over TLS a connection's directions end together when the peer ends its own: neither asyncio nor uvloop reads on, or
writes on, after a close_notify. The other way round works: this side's close_notify goes out and reading goes on.

Invariant: at most `write_high` plus one chunk of bytes wait in the transport; everything else waits framed by nobody.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, cast

from wharf.wire._nghttp2 import SessionError
from wharf.wire.h1_session import Http1Session
from wharf.wire.tcp import bytes_acked, is_gone, peer_address, reset_on_close, tune

if TYPE_CHECKING:
    from wharf.wire.session import WebSession

log = logging.getLogger("wharf.wire")


class SessionShell(asyncio.Protocol):
    """The protocol object of a connection, and the `Port` of an HTTP/1.1 session on it.

    A subclass decides which session it gets and what its end means.
    """

    session: WebSession | None = None
    address = ""  # the other end

    def __init__(self, loop: asyncio.AbstractEventLoop, write_high: int, write_low: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.stalled_since = 0.0  # loop time, of the last bytes the peer took; 0: the transport takes bytes
        self.closing_since = 0.0
        self._loop = loop
        self._write_high = write_high
        self._write_low = write_low
        self._reading_paused = False
        self._patient = False
        self._acked = -1  # bytes the peer had taken when the transport was looked at last

    # --- asyncio's callbacks
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(self._write_high, self._write_low)
        set_read_limits = getattr(transport, "set_read_buffer_limits", None)
        if set_read_limits is not None:
            # TLS transports read on while they are paused, and throw away what they hold when the peer then closes.
            # So they hold one read at most: the end stays in the kernel behind what is yet to be read.
            set_read_limits(1, 0)
        self.address = peer_address(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        try:
            session.receive(data)
        except SessionError as error:
            self.broken(error)
            session.pump()
            self.close()
            return
        except Exception:
            log.exception("connection with %s fails", self.address)
            self.abort()
            return
        session.pump()

    def eof_received(self) -> bool:
        """True: an HTTP/1.1 peer that sends no more may want to hear more; the session says when it is over.

        TLS transports end with their peer whatever is said here, and log a warning at True.
        """
        session = self.session
        if session is None:
            return False
        session.receive_eof()
        session.pump()
        transport = self.transport
        return isinstance(session, Http1Session) and transport is not None and transport.can_write_eof()

    def pause_writing(self) -> None:
        self.stalled_since = self._loop.time()
        if self.session is not None:
            self.session.paused = True

    def resume_writing(self) -> None:
        self.stalled_since = 0.0
        if self.session is not None:
            self.session.paused = False
            self.session.pump()

    def connection_lost(self, error: Exception | None) -> None:
        session, self.session = self.session, None
        self.transport = None
        if isinstance(session, Http1Session):
            session.close(error)
        elif session is not None:
            session.close()

    # --- for subclasses
    def attach(self, session: WebSession) -> None:
        """Let a session use the transport."""
        if isinstance(session, Http1Session):
            session.port = self
        session.write = cast(asyncio.Transport, self.transport).write
        session.call_soon = self._loop.call_soon
        session.on_pumped = self.pumped
        session.paused = bool(self.stalled_since)
        self.session = session

    def pumped(self) -> None:
        """After each pump: close when everything is said."""
        session = self.session
        if session is None or not session.terminating:
            return
        if not self.closing_since:
            self.closing_since = self._loop.time()
            self.ending(session)
        if session.finished:
            self.part(session)

    def part(self, session: WebSession) -> None:
        """Everything is said."""
        self.close()

    def ending(self, session: WebSession) -> None:
        """The session wants nothing more of the peer; called once."""

    def broken(self, error: SessionError) -> None:
        """The peer broke the protocol; the connection ends."""

    # --- commands (session.Port)
    @property
    def unsent(self) -> int:
        """Bytes the transport still holds."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def pause_reading(self) -> None:
        """Feed nothing until `resume_reading`."""
        if self.transport is not None and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Feed again."""
        if self.transport is not None and self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()

    def write_eof(self) -> None:
        """Send no more, go on reading."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            self._close_notify(transport)

    def _close_notify(self, transport: asyncio.Transport) -> None:
        """Half-close of TLS, which transports do not know: OpenSSL says the end, the next read flushes it."""
        try:
            transport.get_extra_info("ssl_object").unwrap()
        except ssl.SSLWantReadError:
            pass  # said; the peer's own end is yet to come
        except (OSError, ValueError):
            self.close()
            return
        if not self._reading_paused:
            transport.pause_reading()
            transport.resume_reading()

    def close(self) -> None:
        """Close after what was written is out."""
        if self.transport is not None and not self.transport.is_closing():
            self.closing_since = self.closing_since or self._loop.time()
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection now, by TCP reset: nobody is to take it for an orderly end."""
        if self.transport is not None:
            reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def trust_reader(self) -> None:
        """A tunnel: a peer that lives may read nothing for as long as it likes, as somebody at a terminal does."""
        self._patient = True
        self.tune_socket(0)

    def overdue(self, now: float, stall_timeout: float, close_timeout: float) -> str:
        """Why the connection must be dropped now; "" if it need not: it takes nothing, does not end, is gone unseen."""
        if self._reading_paused and self.transport is not None and is_gone(self.transport.get_extra_info("socket")):
            return "it is gone"
        if self.closing_since and now - self.closing_since > close_timeout:
            return "it does not end"
        if self.stalled_since and not self._patient:
            acked = bytes_acked(self.transport.get_extra_info("socket")) if self.transport is not None else -1
            if acked != self._acked:
                self._acked, self.stalled_since = acked, now  # it is slow, and takes some
            elif now - self.stalled_since > stall_timeout:
                return "it takes no bytes"
        return ""

    def tune_socket(self, user_timeout: float) -> None:
        """TCP options of the transport's socket; `user_timeout` in seconds, 0: the system's."""
        if self.transport is not None:
            tune(self.transport.get_extra_info("socket"), user_timeout)
