"""Heads of HTTP/1.1 messages as they come in: where one ends, what it says, how its body is framed.

A head is cut out whole first and then given to httptools (llhttp), so that not a byte behind it is consumed: a proxy
must be able to wait with the next request, to skip the body of an answer to HEAD, and to hand over what follows an
Upgrade. Here stands what llhttp is lenient about or leaves to its user: two readers of one stream must never disagree
about where a message ends (request smuggling), so whatever can be read in two ways is refused.

Pure. Invariant: a head that is returned has one reading; everything else is a `Malformed` with the status to answer.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

import httptools
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Header

HEAD_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_TARGET = re.compile(rb"[!\"$-~\x80-\xff]+")  # visible, and no '#': a fragment is never sent
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")
# Where a message ends and what it wants of the connection is read here alone.
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"))
_DISGUISED = frozenset((b"content_length", b"transfer_encoding"))  # some servers read `_` as `-`
_NOT_IN_TRAILERS = _FRAMING | _DISGUISED | {b"trailer", b"te", b"authorization", b"content-encoding", b"content-type"}
_BODILESS = frozenset((204, 304))
_FINAL = 200


class Malformed(Exception):
    """The peer's bytes end the connection; towards a client with this status."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class NotHttp(Malformed):
    """The first line is no HTTP request line: whoever this is would not understand an answer."""


class RequestHead(NamedTuple):
    """A request's head. `length` None and not `chunked`: no body."""

    method: bytes
    target: bytes  # origin form, byte for byte
    authority: bytes
    minor: int  # HTTP/1.minor
    headers: list[Header]
    length: int | None
    chunked: bool
    keep_alive: bool
    wants_upgrade: bool
    expects_continue: bool


class ResponseHead(NamedTuple):
    """A response's head. `length` None and not `chunked`: the body ends with the connection."""

    status: int
    minor: int
    headers: list[Header]
    length: int | None
    chunked: bool
    keep_alive: bool


class _Fields:
    """httptools' callbacks."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: list[Header] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


def find_head(data: bytes, start: int, limits: Http1Limits) -> int:
    """The end of the head that begins at `start`, or -1 when more bytes are needed.

    Malformed: too large, or lines that do not end in CRLF (seen at once, not when the client gives up).
    """
    end = data.find(HEAD_END, start, start + limits.head_max)
    if end >= 0:
        return end + len(HEAD_END)
    if _BARE_LF.search(data, start):
        raise Malformed(HTTPStatus.BAD_REQUEST, "a line of the head does not end in CRLF")
    line_end = data.find(b"\r\n", start, start + limits.line_max + 2)
    if line_end < 0 and len(data) - start > limits.line_max:
        raise Malformed(HTTPStatus.REQUEST_URI_TOO_LONG, f"first line longer than {limits.line_max} bytes")
    if len(data) - start >= limits.head_max:
        raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"head larger than {limits.head_max} bytes")
    return -1


def parse_request_head(head: bytes, limits: Http1Limits) -> RequestHead:
    """A whole head, its empty line included. Malformed when it is none or can be read in two ways."""
    line_end = head.index(b"\r\n")
    if line_end > limits.line_max:
        raise Malformed(HTTPStatus.REQUEST_URI_TOO_LONG, f"request line longer than {limits.line_max} bytes")
    method, target, minor = _parse_request_line(head[:line_end])
    if not target.isascii():  # llhttp knows no such targets; servers do, and it is theirs to judge
        head = b"GET / HTTP/1.1" + head[line_end:]
    headers = _parse_fields(head, httptools.HttpRequestParser, limits)
    found = _framing_fields(headers)
    target, authority = _parse_target(method, target, minor, found.get(b"host", []))
    length, chunked = _parse_framing(found, minor)
    tokens = list_tokens(found.get(b"connection", []))
    has_body = chunked or bool(length)
    return RequestHead(
        method,
        target,
        authority,
        minor,
        headers,
        length,
        chunked,
        _keeps_alive(tokens, minor),
        bool(minor) and not has_body and b"upgrade" in tokens and _offers_upgrade(found.get(b"upgrade", [])),
        bool(minor) and has_body and _parse_expect(found.get(b"expect", [])),
    )


def parse_response_head(head: bytes, request_method: bytes, limits: Http1Limits) -> ResponseHead:
    """A whole head, its empty line included, of the answer to a request with this method."""
    line = _STATUS_LINE.fullmatch(head, 0, head.index(b"\r\n"))
    if line is None:
        raise Malformed(HTTPStatus.BAD_GATEWAY, "malformed status line")
    minor, status = int(line[1]), int(line[2])
    if status == HTTPStatus.SWITCHING_PROTOCOLS and b"\r\nupgrade:" not in head.lower():
        raise Malformed(HTTPStatus.BAD_GATEWAY, "101 without Upgrade")
    headers = _parse_fields(head, httptools.HttpResponseParser, limits)
    found = _framing_fields(headers)
    length, chunked = _parse_framing(found, minor)
    if status < _FINAL or status in _BODILESS or request_method == b"HEAD":
        length, chunked = 0, False
    return ResponseHead(
        status, minor, headers, length, chunked, _keeps_alive(list_tokens(found.get(b"connection", [])), minor)
    )


def parse_trailers(block: bytes, limits: Http1Limits) -> list[Header]:
    """Trailer lines, each with its CRLF, without the empty line. Malformed for fields that may not come so late."""
    if not block:
        return []
    trailers = []
    for line in block[:-2].split(b"\r\n"):
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Malformed(HTTPStatus.BAD_REQUEST, "malformed trailer")
        name = field[1].lower()
        if name in _NOT_IN_TRAILERS:
            raise Malformed(HTTPStatus.BAD_REQUEST, f"{name.decode()} is not allowed in trailers")
        trailers.append((name, field[2].rstrip(b" \t")))
        if len(trailers) > limits.fields_max:
            raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {limits.fields_max} trailers")
    return trailers


def list_tokens(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated header over all its lines, in lower case."""
    if not values:
        return []
    return [token.strip(b" \t").lower() for token in b",".join(values).split(b",")]


def describe_noise(data: bytes) -> str | None:
    """What first bytes are that begin no HTTP/1.1 request: TLS or anything else; None when they may begin one."""
    if data[:1] == b"\x16":
        return "TLS on a port without TLS"
    if not (data[:1].isalpha() or data[:1] == b"\r"):
        return "not HTTP"
    return None


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    parts = line.split(b" ")
    if line.startswith(b"PRI * HTTP/2"):
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 on a connection that speaks HTTP/1.1")
    if len(parts) == 2 and parts[0].isalpha():  # HTTP/0.9 had no version
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "request line without a version")
    if len(parts) != 3 or not parts[0]:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed request line")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        if version[:5].upper() != b"HTTP/":
            raise NotHttp(HTTPStatus.BAD_REQUEST, "not HTTP")
        if not version.startswith(b"HTTP/"):
            raise Malformed(HTTPStatus.BAD_REQUEST, "malformed request line")
        raise Malformed(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP version is neither 1.1 nor 1.0")
    if method == b"CONNECT":
        raise Malformed(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not served")
    if _TARGET.fullmatch(target) is None:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed request target")
    return method, target, version[-1] - 48


def _parse_target(method: bytes, target: bytes, minor: int, hosts: list[bytes]) -> tuple[bytes, bytes]:
    """Origin-form target and authority."""
    if len(hosts) > 1:
        raise Malformed(HTTPStatus.BAD_REQUEST, "more than one Host header")
    if minor and not hosts:
        raise Malformed(HTTPStatus.BAD_REQUEST, "no Host header")
    authority = hosts[0] if hosts else b""
    if _HOST.fullmatch(authority) is None:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed Host header")
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return target, authority
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed request target")
    if hosts and absolute[1].lower() != authority.lower():
        raise Malformed(HTTPStatus.BAD_REQUEST, "the request target names another host than the Host header")
    if not absolute[1] or _HOST.fullmatch(absolute[1]) is None:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed host in the request target")
    rest = absolute[2]
    return (rest if rest[:1] == b"/" else b"/" + rest), absolute[1]


def _parse_fields(
    head: bytes, parser: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser], limits: Http1Limits
) -> list[Header]:
    lines = head.count(b"\r\n")
    if lines != head.count(b"\n") or lines != head.count(b"\r"):
        raise Malformed(HTTPStatus.BAD_REQUEST, "a line of the head does not end in CRLF")
    if lines - 2 > limits.fields_max:
        raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {limits.fields_max} header fields")
    fields = _Fields()
    try:
        parser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # what follows an Upgrade is not the parser's to read
    except httptools.HttpParserInvalidMethodError as error:
        raise Malformed(HTTPStatus.NOT_IMPLEMENTED, "unknown method") from error
    except httptools.HttpParserError as error:
        raise Malformed(HTTPStatus.BAD_REQUEST, f"malformed head: {error}") from error
    if len(fields.headers) != lines - 2:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed header line")
    return fields.headers


def _framing_fields(headers: list[Header]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _FRAMING:
            found.setdefault(name, []).append(value)
        elif name in _DISGUISED:
            raise Malformed(HTTPStatus.BAD_REQUEST, f"header {name.decode()} is not allowed")
    return found


def _parse_framing(found: dict[bytes, list[bytes]], minor: int) -> tuple[int | None, bool]:
    """Body length when announced, and whether the body is chunked."""
    lengths, codings = found.get(b"content-length"), found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise Malformed(HTTPStatus.BAD_REQUEST, "both Content-Length and Transfer-Encoding")
        if not minor:
            raise Malformed(HTTPStatus.BAD_REQUEST, "Transfer-Encoding in HTTP/1.0")
        names = list_tokens(codings)
        if names == [b"chunked"]:
            return None, True
        if names[-1] == b"chunked" and names.count(b"chunked") == 1 and all(names):
            raise Malformed(HTTPStatus.NOT_IMPLEMENTED, "a transfer coding other than chunked")
        raise Malformed(HTTPStatus.BAD_REQUEST, "Transfer-Encoding does not end in chunked")
    if lengths is None:
        return None, False
    if len(lengths) > 1:
        raise Malformed(HTTPStatus.BAD_REQUEST, "more than one Content-Length")
    if _DIGITS.fullmatch(lengths[0]) is None:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed Content-Length")
    return int(lengths[0]), False


def _keeps_alive(tokens: list[bytes], minor: int) -> bool:
    if b"close" in tokens:
        return False
    return bool(minor) or b"keep-alive" in tokens


def _offers_upgrade(values: list[bytes]) -> bool:
    """Any protocol but h2c, which is answered in HTTP/1.1."""
    return any(token and token != b"h2c" for token in list_tokens(values))


def _parse_expect(values: list[bytes]) -> bool:
    if not values:
        return False
    if list_tokens(values) != [b"100-continue"]:
        raise Malformed(HTTPStatus.EXPECTATION_FAILED, "an expectation other than 100-continue")
    return True
