"""What both roles of an HTTP/1.1 connection share: bytes at hand, bytes to be written, the turn of the loop, tunnels.

`receive` only keeps bytes; everything is read, handed out and written by `pump`. After an Upgrade the session stays
between transport and tunnel: the shell goes on calling the same methods.

Pure: the transport is asked through `port`. Invariant: bytes at hand stay within `head_max` plus one read (beyond,
reading pauses), bytes to be written within what senders put there past `writable`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from wharf.wire.h1_head import Malformed
from wharf.wire.limits import Http1Limits
from wharf.wire.session import Port

log = logging.getLogger("wharf.wire")
_MESSAGES_A_TURN = 32  # then other connections have their turn


class Http1Session(ABC):
    """The part of a session that knows no role. It never raises for what the peer did: see `violation`."""

    version = 1

    def __init__(self, limits: Http1Limits) -> None:
        self.paused = True
        self.write: Callable[[bytes], object] | None = None
        self.call_soon: Callable[..., object] | None = None
        self.on_pumped: Callable[[], None] | None = None
        self.port: Port | None = None
        self.violation: str | None = None
        self.failure: Exception | None = None  # of ours, or of a callback
        self.bytes_in = 0
        self.bytes_out = 0
        self.reading_paused = False
        self.limits = limits
        self.tunnel: RawTunnel | None = None
        self.queued = 0  # bytes in _out
        self._out: list[bytes] = []
        self._crowded = False  # somebody may wait for on_drain
        self._data = b""
        self._at = 0
        self._eof = False
        self._scheduled = False
        self._pumping = False
        self._again = False  # woken by what pump called
        self._turn_left = _MESSAGES_A_TURN
        self._ended = False
        self._cut = False
        self._lingering = False
        self._end_said = False
        self._dropped = 0  # bytes read while lingering
        self._closing = False  # announce_shutdown

    # --- what a role says
    @abstractmethod
    def _advance(self) -> None:
        """Hand out what the bytes at hand hold; Malformed."""

    @abstractmethod
    def _refuse(self, error: Malformed) -> None:
        """The peer broke HTTP: say so and end."""

    @abstractmethod
    def _on_written(self) -> bool:
        """Everything queued went to the transport; True when that changed what can be read."""

    @abstractmethod
    def _tell_drained(self) -> None:
        """The transport takes bytes again."""

    # --- the shell's side
    @property
    def terminating(self) -> bool:
        return self._ended

    @property
    def finished(self) -> bool:
        return self._ended and (self._cut or not (self._out or self._lingering))

    def receive(self, data: bytes) -> None:
        """Bytes from the peer, looked at by the next `pump`."""
        self.bytes_in += len(data)
        if not self._ended:
            self._data = self._data[self._at :] + data if self._at < len(self._data) else data
            self._at = 0
        elif self._lingering:
            self._dropped += len(data)
            self._lingering = self._dropped <= self.limits.linger_max

    def receive_eof(self) -> None:
        """The peer sends no more; `pump` follows."""
        self._eof = True
        self._lingering = False
        self.wake()

    def pump(self) -> None:
        """Hand out what arrived, write what there is to say."""
        self._scheduled = False
        if self._pumping:
            return
        self._pumping = True
        self._turn_left = _MESSAGES_A_TURN
        try:
            self._run()
        except Exception as error:
            self.failure = error
            log.exception("connection fails")
            self.cut()
        finally:
            self._pumping = False
        self._look_at_reading()
        if not self._turn_left and not self._ended:
            self.wake()
        if self.on_pumped is not None:
            self.on_pumped()

    def _run(self) -> None:
        while True:
            self._again = False
            if not self._ended:
                try:
                    self._step()
                except Malformed as error:
                    self._refuse(error)
            more = self._flush()
            if not more and not self._again:
                return

    def _step(self) -> None:
        if self.tunnel is None:
            self._advance()
        if self.tunnel is not None and not self._ended:
            self.tunnel.deliver(self._eof)

    # --- the streams' side
    def queue(self, data: bytes) -> None:
        """Write this in this turn of the loop, or when the transport takes bytes again."""
        self._out.append(data)
        self.queued += len(data)
        if self.queued >= self.limits.write_high:
            self._crowded = True
        if not self._pumping:
            self.wake()

    @property
    def writable(self) -> bool:
        """Whether who sends should go on; else on_drain will come."""
        if self.paused or self.queued >= self.limits.write_high:
            self._crowded = True
            return False
        return True

    def wake(self) -> None:
        """Have `pump` called in this turn of the loop."""
        if self._pumping:
            self._again = True
        elif not self._scheduled and self.call_soon is not None:
            self._scheduled = True
            self.call_soon(self.pump)

    def end(self) -> None:
        """Nothing more is wanted from the peer; what is queued still goes out."""
        self._data, self._at = b"", 0
        if not self._ended:
            self._ended = True
            self.wake()

    def linger(self) -> None:
        """`end`, while the peer is still sending: closed with bytes unread, TCP would reset, and what was written last
        might never be read. So say the end and drop what comes, until the peer ends too or the shell loses patience."""
        self._lingering = not self._ended and not self._eof and self.port is not None
        self.end()

    def cut(self) -> None:
        """Drop the connection: what is queued is lost on purpose."""
        self._cut = True
        self._lingering = False
        self._out.clear()
        self.queued = 0
        self.end()
        if self.port is not None:
            self.port.abort()

    def take_data(self) -> bytes:
        """All bytes at hand."""
        data = self._data[self._at :] if self._at else self._data
        self._data, self._at = b"", 0
        return data

    @property
    def held(self) -> int:
        """Bytes at hand that nobody has read."""
        return len(self._data) - self._at

    def _flush(self) -> bool:
        """Write while the transport takes it; True when there may be more to do."""
        if self.paused or self.write is None:
            return False
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self.queued = 0
            self.bytes_out += len(data)
            self.write(data)
        if self._lingering and not self._end_said and self.port is not None:
            self._end_said = True
            self.port.write_eof()
        more = self.tunnel.on_written() if self.tunnel is not None else self._on_written()
        if self._crowded and not self.paused and not self._out:
            self._crowded = False
            if self.tunnel is not None:
                self.tunnel.tell_drained()
            else:
                self._tell_drained()
            more = True
        return more or bool(self._out and not self.paused)

    def _look_at_reading(self) -> None:
        """Reading pauses while bytes lie here that nobody takes."""
        pause = not self._ended and (
            self.held > self.limits.head_max or (self.tunnel is not None and self.tunnel.reading_paused)
        )
        if pause != self.reading_paused:
            self.reading_paused = pause
            if self.port is not None:
                if pause:
                    self.port.pause_reading()
                else:
                    self.port.resume_reading()

    def _detach(self, *, keep_data: bool) -> None:
        """The transport is gone. `keep_data`: bytes at hand still go to who takes them slowly, then it ends."""
        self._out.clear()
        self.queued = 0
        self.write = self.on_pumped = self.port = None
        if not keep_data:
            self._ended = self._cut = True
            self._data, self._at = b"", 0
            self.call_soon = None


class RawTunnel:
    """The connection after an Upgrade: `web.Tunnel`."""

    def __init__(self, session: Http1Session) -> None:
        self.on_eof: Callable[[], None] | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.reading_paused = False
        self._on_data: Callable[[bytes], None] | None = None
        self._session = session
        self._closed = False
        self._eof_told = False
        self._eof_due = False  # write_eof waits for what was written before
        self._eof_sent = False
        self._close_due = False
        self._lost = False
        self._error: Exception | None = None  # how the transport was lost

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Bytes wait until this is set."""
        return self._on_data

    @on_data.setter
    def on_data(self, callback: Callable[[bytes], None] | None) -> None:
        self._on_data = callback
        if callback is not None:
            self._session.wake()

    @property
    def buffered(self) -> int:
        port = self._session.port
        return self._session.queued + (port.unsent if port is not None else 0)

    @property
    def writable(self) -> bool:
        return not self._write_ended and self._session.writable

    @property
    def _write_ended(self) -> bool:
        return self._closed or self._lost or self._eof_due or self._eof_sent or self._close_due

    def write(self, data: bytes) -> None:
        if data and not self._write_ended:
            self._session.queue(data)

    def write_eof(self) -> None:
        if not self._write_ended:
            self._eof_due = True
            self._session.wake()

    def pause_reading(self) -> None:
        self.reading_paused = True
        self._session.wake()

    def resume_reading(self) -> None:
        self.reading_paused = False
        self._session.wake()

    def close(self) -> None:
        if self._lost:
            self.abort()
        elif not self._closed:
            self._close_due = True
            self._session.wake()

    def abort(self) -> None:
        if self._lost:
            self._session.end()
            self._tell_closed()
        elif not self._closed:
            self._session.cut()

    # --- the session's side
    def deliver(self, eof: bool) -> None:
        """Hand out the bytes at hand, then their end."""
        session = self._session
        while session.held and self._on_data is not None and not self.reading_paused and not self._close_due:
            self._on_data(session.take_data())
        if eof and not session.held and not self._eof_told:
            self._eof_told = True
            if self.on_eof is not None and not self._close_due:
                self.on_eof()
            self._close_due = self._close_due or self._eof_sent
        if self._lost and not session.held:
            session.end()
            self._tell_closed()

    def on_written(self) -> bool:
        """What was queued went out: say the end, if it was asked for."""
        if self._close_due:
            if not self._session.terminating and self._session.port is not None:
                self._session.port.close()
            self._session.end()
        elif self._eof_due:
            self._eof_due, self._eof_sent = False, True
            if self._session.port is not None:
                self._session.port.write_eof()
            self._close_due = self._eof_told
            return self._close_due
        return False

    def tell_drained(self) -> None:
        if self.on_drain is not None and not self._write_ended:
            self.on_drain()

    def lose(self, error: Exception | None) -> None:
        """The transport is gone; what it brought before is still handed out."""
        self._lost, self._error = True, error
        if not self._session.held or self._close_due:
            self._tell_closed()

    def _tell_closed(self) -> None:
        if self._closed:
            return
        self._closed = True
        callback = self.on_closed
        self._on_data = self.on_eof = self.on_closed = self.on_drain = None
        if callback is not None:
            callback(self._error)
