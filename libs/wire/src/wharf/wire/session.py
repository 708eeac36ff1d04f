"""What the I/O shells drive: one HTTP connection's codec, whichever version and role.

The shell feeds `receive`, takes output through `write`, obeys the transport with `paused`, and calls `pump` after each
feed and whenever the transport takes bytes again. A session never touches a socket, a loop or a clock of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class WebSession(Protocol):
    """One connection without I/O; the server roles hand an `Exchange` to the handler they were built with."""

    version: int
    paused: bool  # the transport takes nothing now
    write: Callable[[bytes], object] | None
    call_soon: Callable[..., object] | None
    on_pumped: Callable[[], None] | None  # after each pump: look at `terminating`, `finished`

    @property
    def open_streams(self) -> int:
        """Exchanges or requests under way."""

    @property
    def terminating(self) -> bool:
        """Nothing more is wanted from the peer; close once `finished`."""

    @property
    def finished(self) -> bool:
        """Terminating, and everything to be said went to `write`."""

    @property
    def violation(self) -> str | None:
        """What the peer did that ends the connection; None while it behaves."""

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...

    def receive(self, data: bytes) -> None:
        """Bytes from the peer. SessionError when they end the connection: pump what is left to say, then close."""

    def receive_eof(self) -> None:
        """The peer sends no more."""

    def pump(self) -> None: ...

    def announce_shutdown(self) -> None:
        """No new streams, please: first GOAWAY, or `connection: close` on what is answered from now on."""

    def refuse_streams(self) -> None:
        """Second GOAWAY; a connection without streams terminates."""

    def close(self) -> None:
        """The transport is gone: every stream is told."""


class Port(Protocol):
    """What an HTTP/1.1 session or a tunnel asks of its transport beside `write`.

    Each is harmless when repeated, and when the transport is closing or gone.
    """

    @property
    def unsent(self) -> int:
        """Bytes given to `write` that the transport still holds."""

    def pause_reading(self) -> None:
        """Feed nothing until `resume_reading`: what was received is not taken."""

    def resume_reading(self) -> None: ...

    def write_eof(self) -> None:
        """Send no more, go on reading."""

    def close(self) -> None:
        """Close once everything written is out."""

    def abort(self) -> None:
        """Drop the connection now, by TCP reset: a peer must not take it for the end of a body."""
