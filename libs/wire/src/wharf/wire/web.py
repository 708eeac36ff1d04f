"""What a proxy sees of HTTP, whichever version carries it: exchanges it serves, requests it makes, raw tunnels.

Everything lives on the loop thread, no method blocks, callbacks are plain attributes (None: skipped). Nothing here does
I/O. Header lists are what went over the wire: order, repeats and empty values kept, names in lower case.

Flow control is the caller's: bytes given to `on_data` keep their window shut until `take` says they were taken, and
bytes given to `send` count in `buffered` until the peer took them. Nobody buffers without bound.

Invariant: after its end (`done`) an exchange or request calls nobody any more, and ignores what it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Protocol

from wharf.wire.rpc import Peer

Header = tuple[bytes, bytes]
Headers = Sequence[Header]


class Fault(Enum):
    """What is known about a request that failed. UNSENT, FULL and REFUSED are safe to repeat whatever its method."""

    UNSENT = "not sent"  # no connection: dial, TLS or settings failed
    FULL = "no connection free"  # not sent either, by a bound of this side: it says nothing about the upstream
    REFUSED = "refused unprocessed"  # REFUSED_STREAM, or a GOAWAY that does not cover the stream
    RESET = "reset by the peer"  # RST_STREAM after it may have been processed
    LOST = "connection lost"  # EOF, TCP reset, dead peer
    PROTOCOL = "protocol error"  # the peer broke HTTP
    TIMEOUT = "timed out"  # this side's own limit


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request ended without a whole response. `text` is for logs: addresses and reasons, never headers."""

    fault: Fault
    text: str
    code: int = 0  # HTTP/2 error code where there is one


class Tunnel(Protocol):
    """Raw bytes after an Upgrade, both directions, each with its own end."""

    on_data: Callable[[bytes], None] | None  # every byte, those that came with the head included
    on_eof: Callable[[], None] | None  # the peer sends no more; writing may go on
    on_closed: Callable[[Exception | None], None] | None  # both directions are over; at most once
    on_drain: Callable[[], None] | None

    @property
    def buffered(self) -> int:
        """Bytes written that the transport has not taken."""

    @property
    def writable(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None:
        """This side sends no more (half-close): TLS close_notify or TCP FIN once everything is out."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """End both directions once what was written is out."""

    def abort(self) -> None: ...


class ServedConnection(Protocol):
    """The client connection an exchange came on."""

    peer: Peer
    local_address: str  # "10.0.0.5:6443", what the client connected to
    version: int  # 1 or 2
    identity: str | None  # name of the TLS identity it was met with; None: without TLS
    context: Any  # the handler's own: None at first


# Status and reason → headers and body of the answer to a request that no handler gets to see.
Refusal = Callable[[int, str], tuple[Headers, bytes]]


def plain_refusal(status: int, text: str) -> tuple[Headers, bytes]:
    """Status and reason as a line of text."""
    body = f"{status} {HTTPStatus(status).phrase}: {text}\n".encode()
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))], body


class Exchange(Protocol):
    """One request that is being served, and its response."""

    connection: ServedConnection
    method: bytes  # b"GET"
    target: bytes  # path and query as sent, byte for byte: b"/api/v1/pods?watch=1"
    authority: bytes  # :authority, else Host, as sent; b"" when there is none
    content_length: int | None  # announced
    body_expected: bool  # False: the request ended with its head
    wants_upgrade: bool  # HTTP/1.1 with an Upgrade that `upgrade` would honour
    done: bool
    responded: bool  # a final head went out
    bytes_in: int  # of bodies, both directions
    bytes_out: int
    context: Any  # the handler's own
    reader_timeout: float  # seconds that the client may take nothing of what waits for it; 0: the server's limits
    on_data: Callable[[bytes], None] | None
    on_end: Callable[[Headers], None] | None  # the whole body is here; its trailers
    on_cancel: Callable[[], None] | None  # reset or connection lost before the response was complete; at most once
    on_complete: Callable[[], None] | None  # the whole response was handed to the connection; instead of on_cancel
    on_drain: Callable[[], None] | None  # `buffered` fell to the low mark after it had passed the high one

    @property
    def headers(self) -> list[Header]:
        """All request headers, without pseudo-headers (Host stays where HTTP/1.1 sent it)."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header by its lower-case name."""

    def has_prefix(self, prefix: bytes) -> bool:
        """Whether the name of any header begins with these lower-case bytes."""

    @property
    def buffered(self) -> int: ...

    @property
    def writable(self) -> bool: ...

    def drop_head(self) -> None:
        """The request's headers are not needed any more: an exchange that lives long holds less."""

    def take(self, length: int) -> None:
        """So many body bytes were taken: the client may send as many more."""

    def inform(self, status: int, headers: Headers) -> None:
        """An interim response: 100, 103."""

    def respond(self, status: int, headers: Headers, end: bool = False) -> None:
        """The final head; once. HTTP/1.1 adds its own framing (chunked when no content-length is announced)."""

    def send(self, data: bytes) -> None:
        """Body bytes, out at the end of this turn of the loop; ignored where there may be none (HEAD, 204, 304)."""

    def finish(self, trailers: Headers = ()) -> None: ...

    def abort(self, code: int = 2) -> None:
        """A response that cannot be completed: RST_STREAM (default INTERNAL_ERROR), or the connection is cut without
        a last chunk. Before `respond` it does the same, so answer an error instead where there is one."""

    def upgrade(self, headers: Headers) -> Tunnel:
        """Answer 101 with these headers and hand the connection over, bytes that came with the head included."""


class Request(Protocol):
    """One request made upstream, and its response. Callbacks are set before control returns to the loop."""

    done: bool
    status: int  # 0 until the final head came
    bytes_in: int  # of the response body
    bytes_out: int
    on_inform: Callable[[int, list[Header]], None] | None
    on_head: Callable[[int, list[Header]], None] | None
    on_data: Callable[[bytes], None] | None
    on_end: Callable[[Headers], None] | None  # whole response, trailers
    on_failure: Callable[[Failure], None] | None  # instead of on_end; at most once
    on_drain: Callable[[], None] | None

    @property
    def buffered(self) -> int: ...

    @property
    def writable(self) -> bool: ...

    def take(self, length: int) -> None: ...

    def send(self, data: bytes) -> None: ...

    def finish(self, trailers: Headers = ()) -> None: ...

    def reset(self, code: int = 8) -> None:
        """Nobody wants the answer any more: RST_STREAM (default CANCEL), or the connection is cut. Silent here."""


class Link(Protocol):
    """One connection to an upstream."""

    version: int

    @property
    def open_requests(self) -> int: ...

    @property
    def capacity(self) -> int:
        """How many more requests it takes now; 0 when full, going away or gone."""

    def request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        headers: Headers,
        *,
        scheme: bytes = b"https",
        end: bool = True,
    ) -> Request:
        """Send a request head; `end`: there is no body. `capacity` must be positive."""
