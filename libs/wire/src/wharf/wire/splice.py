"""Two raw tunnels joined: bytes go through unread, each direction with its own end.

Invariant: a tunnel is read only while the other one takes bytes; `on_done` is called once, when both are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wharf.wire.web import Tunnel

Done = Callable[["Splice", Exception | None], None]


class Splice:
    """What `join` returns."""

    __slots__ = ("_a", "_b", "_error", "_grace", "_left", "_loop", "_on_done", "_seen", "_timer", "bytes_a", "bytes_b")

    def __init__(self, a: Tunnel, b: Tunnel, grace: float, on_done: Done) -> None:
        self.bytes_a = 0  # read from a
        self.bytes_b = 0
        self._a = a
        self._b = b
        self._grace = grace
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = -1
        self._left = 2
        self._error: Exception | None = None
        a.on_eof = lambda: self._half_closed(b)
        b.on_eof = lambda: self._half_closed(a)
        a.on_closed = lambda error: self._closed(b, error)
        b.on_closed = lambda error: self._closed(a, error)
        a.on_drain = b.resume_reading
        b.on_drain = a.resume_reading
        a.on_data = self._from_a
        b.on_data = self._from_b

    def abort(self) -> None:
        """Cut both."""
        self._a.abort()
        self._b.abort()

    def _from_a(self, data: bytes) -> None:
        self.bytes_a += len(data)
        self._b.write(data)
        if not self._b.writable:
            self._a.pause_reading()

    def _from_b(self, data: bytes) -> None:
        self.bytes_b += len(data)
        self._a.write(data)
        if not self._a.writable:
            self._b.pause_reading()

    def _half_closed(self, other: Tunnel) -> None:
        if self._timer is None:
            self._watch()
        other.write_eof()

    def _watch(self) -> None:
        """After one direction has ended, the other may go on as long as it moves."""
        moved = self.bytes_a + self.bytes_b
        if moved == self._seen:
            self._timer = None
            try:
                self._a.close()
            finally:
                self._b.close()
            return
        self._seen = moved
        self._timer = self._loop.call_later(self._grace, self._watch)

    def _closed(self, other: Tunnel, error: Exception | None) -> None:
        self._error = self._error or error
        self._left -= 1
        if self._timer is not None:
            self._timer.cancel()
        if not self._left:
            self._on_done(self, self._error)
            return
        try:
            other.close()
        finally:
            if other is self._b:
                self._watch_rest(-1)

    def _watch_rest(self, before: int) -> None:
        """After a is gone, b gets what a sent last as long as it takes it; nobody would wait for more."""
        rest = before  # should `buffered` fail, nothing would look at b again
        try:
            rest = self._b.buffered
        finally:
            if rest == before:
                self._b.abort()
        if rest != before:
            self._timer = self._loop.call_later(self._grace, self._watch_rest, rest)


def join(a: Tunnel, b: Tunnel, half_close_seconds: float, on_done: Done) -> Splice:
    """Connect two tunnels until both are over.

    After one direction has ended the other is closed when nothing moves for `half_close_seconds`. The same patience has
    `b`, the server's side, for the last bytes of an `a` that is gone; a client may take its own as slowly as it likes.
    `on_done` gets the splice with its byte counts, and what broke first, if anything did.
    """
    return Splice(a, b, half_close_seconds, on_done)
