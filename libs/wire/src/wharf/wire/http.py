"""Plain HTTP endpoints beside gRPC on the same port: health, metrics, version. Small and synchronous by contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

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


def plain_error(status: int, text: str = "") -> HttpResponse:
    """An error as one line of text."""
    return HttpResponse(status, (text or HTTPStatus(status).phrase).encode() + b"\n")


def answer_unserved(request: HttpRequest) -> HttpResponse:
    """The answer where no handler is set: 415 for what looks like a gRPC call gone wrong, else 404."""
    if request.method == "POST":
        return plain_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "invalid gRPC request content-type")
    return plain_error(HTTPStatus.NOT_FOUND)
