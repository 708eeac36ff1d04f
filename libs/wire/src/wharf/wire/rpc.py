"""What a gRPC handler sees, whichever front end hosts it.

A handler is plain `bytes → bytes`: it never learns whether wharf's own HTTP/2 server or grpcio called it. It runs on
the loop thread, returns at once and answers through its `Call`, now or later. Nothing here does I/O.

Invariant: after `reply`, `reply_parts`, `finish` or `on_cancel` a call is over (`done`); whatever is said to
it then is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

Metadata = Sequence[tuple[bytes, bytes]]


class Code(IntEnum):
    """gRPC status codes. Source: gRPC core, status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The verified client certificate of a connection."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    der: bytes


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection."""

    address: str  # "127.0.0.1:4711"
    certificate: PeerCertificate | None = None
    server_name: str | None = None  # SNI, when TLS carried one


class Call(Protocol):
    """One RPC. Methods may only be called on the loop thread; none of them blocks.

    The callbacks are plain attributes a handler sets before it returns; unset ones are skipped.
    """

    path: str  # "/etcdserverpb.KV/Range"
    peer: Peer
    deadline: float | None  # loop time, seconds; None: no deadline
    done: bool
    on_message: Callable[[bytes], None] | None  # streams: one whole request message
    on_half_close: Callable[[], None] | None  # streams: the client sends no more
    on_cancel: Callable[[], None] | None  # client reset, deadline passed or connection lost; called at most once
    on_drain: Callable[[], None] | None  # `buffered` fell to the low-water mark after it had passed the high one

    @property
    def metadata(self) -> Metadata:
        """Request metadata as sent, lower-case names, -bin decoded; without pseudo-headers and reserved names."""

    @property
    def buffered(self) -> int:
        """Bytes given to `send` that the peer's window or the transport has not taken yet."""

    @property
    def writable(self) -> bool:
        """False from the high-water mark until `on_drain`."""

    def reply(self, message: bytes) -> None:
        """Send the only response message and finish with OK (unary)."""

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        """Like `reply` for one message of `length` bytes, pulled from `parts` only as the peer takes it.

        If `parts` raises or ends early the stream is reset: a half-sent message has no other honest end.
        """

    def send(self, message: bytes) -> None:
        """Send one response message of a stream."""

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        """End the call with this status; trailers-only when nothing was sent before."""

    def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send response headers now, with these entries; at most once, before the first message."""

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Entries to go out with the final status."""

    def pause_reading(self) -> None:
        """Stop taking request messages of this stream; the client's window closes."""

    def resume_reading(self) -> None: ...


UnaryHandler = Callable[[bytes, Call], None]
StreamHandler = Callable[[Call], None]


class Kind(Enum):
    UNARY = "unary"  # exactly one request message; the handler gets it with the call
    STREAM = "stream"  # client-, server- or bidirectional streaming; messages arrive by `on_message`


@dataclass(frozen=True, slots=True)
class Method:
    """One served method."""

    path: str  # "/package.Service/Method"
    kind: Kind
    handler: UnaryHandler | StreamHandler


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Message sizes, in bytes; etcd's server defaults."""

    receive_max: int = 2 * 1024 * 1024  # 1.5 MiB request + 512 KiB overhead
    send_max: int = 2**31 - 1
    high_water: int = 1024 * 1024  # per call: `writable` turns False above
    low_water: int = 256 * 1024
