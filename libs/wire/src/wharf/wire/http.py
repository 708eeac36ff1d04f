"""Plain HTTP endpoints beside gRPC on the same port.

`HttpHandler`: health, metrics, version; small and synchronous by contract. `Mount`: a subtree of paths whose answers
may come later, in pieces, and without end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from wharf.wire.rpc import Peer

Headers = tuple[tuple[bytes, bytes], ...]
TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One whole request; the target is raw, header names are lower-case."""

    method: str
    target: str  # "/health?serializable=true"
    headers: Headers
    body: bytes
    peer: Peer

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark; empty without one."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One whole response; content-length is the wire's to add."""

    status: int
    body: bytes = b""
    headers: Headers = TEXT


HttpHandler = Callable[[HttpRequest], HttpResponse]


class HttpExchange(Protocol):
    """One whole request, and its response. For the loop thread; no method blocks.

    Either `respond` answers at once, or `open`, any number of `send` and `finish` do. After its end (`done`) an
    exchange makes no more callbacks and ignores every method.
    """

    request: HttpRequest
    done: bool
    on_cancel: Callable[[], None] | None  # the client went away before the end; at most once
    on_drain: Callable[[], None] | None  # `writable` again

    @property
    def writable(self) -> bool:
        """False while the client has too much to read; what is sent all the same is kept."""

    def respond(self, response: HttpResponse) -> None: ...

    def open(self, status: int, headers: Headers) -> None: ...

    def send(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class ExchangeStream(Protocol):
    """What a protocol's own exchange has in common with those of the other."""

    on_cancel: Callable[[], None] | None
    on_drain: Callable[[], None] | None

    @property
    def writable(self) -> bool: ...


class MountedExchange(ABC):
    """`HttpExchange` without the writing, which each protocol does in its own way."""

    def __init__(self, request: HttpRequest, stream: ExchangeStream) -> None:
        self.request = request
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._stream = stream
        stream.on_cancel = self._canceled
        stream.on_drain = self._drained

    @abstractmethod
    def _write_response(self, response: HttpResponse) -> None:
        """Send a whole response."""

    @abstractmethod
    def _write_head(self, status: int, headers: Headers) -> None:
        """Begin a response in pieces."""

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Send a piece."""

    @abstractmethod
    def _write_end(self) -> None:
        """End a response in pieces."""

    @property
    def writable(self) -> bool:
        return self._stream.writable

    def respond(self, response: HttpResponse) -> None:
        if not self.done:
            self._end()
            self._write_response(response)

    def open(self, status: int, headers: Headers) -> None:
        if not self.done:
            self._write_head(status, headers)

    def send(self, data: bytes) -> None:
        if not self.done:
            self._write(data)

    def finish(self) -> None:
        if not self.done:
            self._end()
            self._write_end()

    def _canceled(self) -> None:
        canceled = self.on_cancel
        self._end()
        if canceled is not None:
            canceled()

    def _drained(self) -> None:
        if self.on_drain is not None:
            self.on_drain()

    def _end(self) -> None:
        self.done = True
        self.on_cancel = self.on_drain = None


@dataclass(frozen=True, slots=True)
class Mount:
    """The handler of every path that begins with `prefix`; requests larger than `body_max` bytes are refused."""

    prefix: str
    handler: Callable[[HttpExchange], None]
    body_max: int


def plain_error(status: int, text: str = "") -> HttpResponse:
    """An error as one line of text."""
    return HttpResponse(status, (text or HTTPStatus(status).phrase).encode() + b"\n")


def answer_unserved(request: HttpRequest) -> HttpResponse:
    """The answer where no handler is set: 415 for what looks like a gRPC call gone wrong, else 404."""
    if request.method == "POST":
        return plain_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid gRPC request content-type")
    return plain_error(HTTPStatus.NOT_FOUND)
