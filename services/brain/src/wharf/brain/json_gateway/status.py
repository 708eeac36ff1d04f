"""gRPC codes as HTTP answers, the way grpc-gateway gives them. Pure.

Source: grpc-gateway v2, `runtime/errors.go`.
"""

from __future__ import annotations

import json
from typing import Final

from wharf.wire.http import Headers, HttpResponse
from wharf.wire.rpc import Code

JSON_HEADERS: Final[Headers] = ((b"content-type", b"application/json"),)

_HTTP: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def http_status(code: int) -> int:
    return _HTTP.get(Code(code), 500) if code in Code._value2member_map_ else 500


def status_json(code: int, text: str) -> dict[str, int | str]:
    """A google.rpc.Status without details."""
    return {"code": code, "message": text} if text else {"code": code}


def refusal(code: int, text: str) -> HttpResponse:
    """The whole answer of a call that failed before anything was sent."""
    body = json.dumps(status_json(code, text), separators=(",", ":"), ensure_ascii=False)
    headers = JSON_HEADERS
    if code == Code.UNAUTHENTICATED:
        headers = (*headers, (b"www-authenticate", text.encode("latin-1", "replace")))
    return HttpResponse(http_status(code), body.encode("utf-8", "replace"), headers)


def stream_error(code: int, text: str) -> bytes:
    """The last line of a stream that failed."""
    line = json.dumps({"error": status_json(code, text)}, separators=(",", ":"), ensure_ascii=False)
    return line.encode("utf-8", "replace") + b"\n"
