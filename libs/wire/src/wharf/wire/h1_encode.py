"""Heads of HTTP/1.1 messages as they go out, and the framing of what follows them.

The framing is this side's own: what the other side of a proxy said about its connection and its transfer coding says
nothing about this one.

Pure. Invariant: no byte of a header can end its line (CR, LF and NUL are refused by ValueError).
"""

from __future__ import annotations

import re
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from wharf.wire.h1_head import list_tokens
from wharf.wire.web import Header, Headers

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[!-~\x80-\xff]+")
_CONNECTION_OWN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"))
_NOT_TRAILERS = _CONNECTION_OWN | {b"content-length", b"host", b"trailer", b"te", b"upgrade"}
_NAMES_KNOWN_MAX = 1024
_BODILESS = frozenset((204, 304))
_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}  # others go without a phrase
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_names_known: set[bytes] = set()


class Framing(Enum):
    """How the end of an outgoing body is told."""

    NONE = "no body"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "end of the connection"


class Plan(NamedTuple):
    """A head ready to go out, and what its body has to keep to."""

    head: bytes
    framing: Framing
    length: int  # of a body by length
    keep_alive: bool


def plan_response(status: int, headers: Headers, *, method: bytes, minor: int, end: bool, keep_alive: bool) -> Plan:
    """A final response to a request with this method and version. ValueError when it cannot be said in HTTP/1.1."""
    kept, length, closes = _own_framing(headers)
    keep_alive = keep_alive and not closes
    framing, size = Framing.NONE, 0
    if status in _BODILESS or method == b"HEAD":
        if length is not None and status != HTTPStatus.NO_CONTENT:
            kept.append((b"content-length", b"%d" % length))
    elif length is not None or end:
        framing, size = Framing.LENGTH, length or 0
        if end and size:
            raise ValueError("a response ends with its head and announces a body")
        kept.append((b"content-length", b"%d" % size))
    elif minor:
        framing = Framing.CHUNKED
        kept.append((b"transfer-encoding", b"chunked"))
    else:
        framing, keep_alive = Framing.CLOSE, False
    if not keep_alive:
        kept.append((b"connection", b"close"))
    elif not minor:
        kept.append((b"connection", b"keep-alive"))
    return Plan(encode_head(status_line(status), kept), framing, size, keep_alive)


def plan_request(method: bytes, target: bytes, authority: bytes, headers: Headers, *, end: bool, upgrade: bool) -> Plan:
    """A request's head. `upgrade`: its Upgrade header asks for the connection. ValueError as `plan_response`."""
    if _TOKEN.fullmatch(method) is None or method == b"CONNECT":
        raise ValueError("no method for HTTP/1.1")
    if _TARGET.fullmatch(target) is None:
        raise ValueError("no request target for HTTP/1.1")
    kept, length, _ = _own_framing(headers)
    lines: list[Header] = [(b"host", authority)]
    for header in kept:
        if header[0] == b"upgrade":
            if upgrade:
                lines.append((b"Upgrade", header[1]))
        elif header[0] != b"host":
            lines.append(header)
    framing, size = Framing.NONE, 0
    if length is not None:
        framing, size = Framing.LENGTH, length
        if end and size:
            raise ValueError("a request ends with its head and announces a body")
        lines.append((b"content-length", b"%d" % size))
    elif not end:
        framing = Framing.CHUNKED
        lines.append((b"transfer-encoding", b"chunked"))
    elif method in _WITH_BODY:
        lines.append((b"content-length", b"0"))
    if upgrade:
        lines.append((b"Connection", b"Upgrade"))
    return Plan(encode_head(b"%b %b HTTP/1.1\r\n" % (method, target), lines), framing, size, keep_alive=True)


def encode_inform(status: int, headers: Headers) -> bytes:
    """An interim response. ValueError as `plan_response`."""
    if status == HTTPStatus.CONTINUE and not headers:
        return CONTINUE
    kept, _, _ = _own_framing(headers)
    return encode_head(status_line(status), kept)


def encode_switch(headers: Headers) -> bytes:
    """101 with these headers, in their order and with their repeats. ValueError as `plan_response`."""
    kept, _, _ = _own_framing(headers)
    lines = [(b"Upgrade", value) if name == b"upgrade" else (name, value) for name, value in kept]
    lines.append((b"Connection", b"Upgrade"))
    return encode_head(status_line(HTTPStatus.SWITCHING_PROTOCOLS), lines)


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body; fields that may not come in trailers are left out."""
    if not trailers:
        return LAST_CHUNK
    return encode_head(b"0\r\n", [header for header in trailers if header[0] not in _NOT_TRAILERS])


def status_line(status: int) -> bytes:
    """The first line of a response."""
    known = _STATUS_LINES.get(status)
    if known is not None:
        return known
    if not 100 <= status <= 999:
        raise ValueError("a status has three digits")
    return b"HTTP/1.1 %d \r\n" % status


def encode_head(first: bytes, headers: list[Header]) -> bytes:
    """First line, header lines, empty line. ValueError when a name is none or a value holds CR, LF or NUL."""
    for name, _ in headers:
        if name not in _names_known:
            _learn_name(name)
    head = first + b"".join([b"%b: %b\r\n" % header for header in headers]) + b"\r\n"
    lines = len(headers) + 2
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("a header value holds CR, LF or NUL")
    return head


def _learn_name(name: bytes) -> None:
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("a header name is no token")
    if len(_names_known) < _NAMES_KNOWN_MAX:
        _names_known.add(name)


def _own_framing(headers: Headers) -> tuple[list[Header], int | None, bool]:
    """Headers without those of a connection, the length they announce, and whether they ask for its end."""
    kept: list[Header] = []
    length: int | None = None
    closes = False
    for header in headers:
        name = header[0]
        if name == b"content-length":
            if not header[1].isdigit() or (length is not None and length != int(header[1])):
                raise ValueError("no single content-length")
            length = int(header[1])
        elif name not in _CONNECTION_OWN:
            kept.append(header)
        elif name == b"connection":
            closes = closes or b"close" in list_tokens([header[1]])
    return kept, length, closes
