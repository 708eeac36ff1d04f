"""HTTP/1.1 server side without I/O, over httptools: bytes in → whole requests; responses → bytes out.

For small endpoints only.

Invariant: requests are handed out in order and one at a time; nothing is kept beyond
`http1_head_max` and `plain_body_max`.
Bad input becomes the right 4xx and the end of the connection.
"""

from __future__ import annotations

from http import HTTPStatus

import httptools
from wharf.wire.http import HttpRequest, HttpResponse
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Peer

_NO_BODY_STATUSES = frozenset((204, 304))
_PIPELINED_MAX = 64
_INFORMATIONAL_END = 200


class BadRequest(Exception):
    """The peer's bytes end the connection with this status."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class NotHttp(Exception):
    """The first line is no HTTP request line: whoever this is would not understand an answer."""


class Http1Connection:
    """Parses requests and formats responses of one connection. `finished`: close when the output is gone."""

    def __init__(self, limits: ConnectionLimits, peer: Peer) -> None:
        self.finished = False
        self.requests_seen = 0
        self._limits = limits
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._ready: list[HttpRequest] = []
        self._keep_alive: list[bool] = []
        self._error: BadRequest | None = None
        self._answerable = False
        self._reset()

    def _reset(self) -> None:
        self._head_size = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._in_body = False

    def receive(self, data: bytes) -> list[HttpRequest]:
        """Whole requests in `data`; BadRequest when the peer broke the rules (its answer: `encode_error`), NotHttp."""
        if not self._in_body:
            self._head_size += len(data)
        if not self._answerable and (b" HTTP/1." in data or b" HTTP/2" in data):
            self._answerable = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.finished = True  # no protocol to upgrade to: answer the request, then close
        except httptools.HttpParserError as error:
            if self._error is None and not self._answerable:
                raise NotHttp from error
            raise self._error or BadRequest(HTTPStatus.BAD_REQUEST, "malformed HTTP request") from error
        if self._error is None and not self._in_body and self._head_size > self._limits.http1_head_max:
            self._error = BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request headers too large")
        if self._error is not None:
            raise self._error
        ready, self._ready = self._ready, []
        return ready

    def encode_response(self, request: HttpRequest, response: HttpResponse) -> bytes:
        """The response to the oldest unanswered request."""
        keep = self._keep_alive.pop(0) and not self.finished
        self.finished = not keep
        return encode_response(response, keep, head_only=request.method == "HEAD")

    def encode_error(self, error: BadRequest) -> bytes:
        """The last response of a connection."""
        self.finished = True
        return encode_response(HttpResponse(error.status, str(error).encode() + b"\n"), keep=False, head_only=False)

    # httptools' callbacks
    def on_message_begin(self) -> None:
        self.requests_seen += 1

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._check_head(len(self._target))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        self._check_head(sum(len(n) + len(v) for n, v in self._headers))

    def _check_head(self, size: int) -> None:
        if size > self._limits.http1_head_max:
            self._error = BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request headers too large")
            raise self._error

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > self._limits.plain_body_max:
            self._error = BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request body too large")
            raise self._error

    def on_message_complete(self) -> None:
        if len(self._ready) >= _PIPELINED_MAX:
            self._error = BadRequest(HTTPStatus.TOO_MANY_REQUESTS, "too many pipelined requests")
            raise self._error
        method = self._parser.get_method().decode("ascii")
        self._keep_alive.append(bool(self._parser.should_keep_alive()))
        self._ready.append(
            HttpRequest(method, self._target.decode("latin-1"), tuple(self._headers), bytes(self._body), self._peer)
        )
        self._reset()


def encode_response(response: HttpResponse, keep: bool, head_only: bool) -> bytes:
    """A response as bytes, length always announced."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {response.status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in response.headers]
    if response.status >= _INFORMATIONAL_END and response.status not in _NO_BODY_STATUSES:
        lines.append(b"content-length: %d" % len(response.body))
    if not keep:
        lines.append(b"connection: close")
    body = b"" if head_only or response.status in _NO_BODY_STATUSES else response.body
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
