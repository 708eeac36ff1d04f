"""metav1.Status: how Kubernetes says that something failed, in every form its clients read.

Clients decide by `code`, `reason` and `details.retryAfterSeconds`, so those are kube-apiserver's own. The protobuf form
is written by hand: one message of fixed fields needs no generated code.
Sources: k8s.io/apimachinery, pkg/api/errors, pkg/apis/meta/v1/generated.proto, pkg/runtime/generated.proto. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from wharf.common.kube.negotiate import JSON, PROTOBUF, YAML, negotiate

_MAGIC: Final = b"k8s\0"
_VARINT, _BYTES = 0, 2
_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Details:
    """What a Status is about."""

    name: str = ""
    group: str = ""
    kind: str = ""  # for resources the plural: "pods"
    uid: str = ""
    retry_after_seconds: int = 0  # 0: none

    @property
    def document(self) -> dict[str, Any]:
        fields = {
            "name": self.name,
            "group": self.group,
            "kind": self.kind,
            "uid": self.uid,
            "retryAfterSeconds": self.retry_after_seconds,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Status:
    """A failure. `code` is the HTTP status; `reason` is one of Kubernetes' words, empty when it has none for it."""

    code: int
    reason: str
    message: str
    details: Details | None = None

    @property
    def retry_after_seconds(self) -> int:
        """What Retry-After says; 0: it is not sent."""
        return self.details.retry_after_seconds if self.details is not None else 0

    @property
    def document(self) -> dict[str, Any]:
        """The JSON form."""
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.details is not None:
            document["details"] = self.details.document
        return document | {"code": self.code}


def failure(code: int, message: str, retry_after_seconds: int = 0) -> Status:
    """A Status with the reason that Kubernetes gives to this code."""
    details = Details(retry_after_seconds=retry_after_seconds) if retry_after_seconds else None
    return Status(code, _REASONS.get(code, ""), message, details)


def bad_request(message: str) -> Status:
    return failure(400, message)


def unauthorized(message: str = "Unauthorized") -> Status:
    return failure(401, message)


def forbidden(message: str, kind: str = "", group: str = "", name: str = "") -> Status:
    """403; with a resource the message begins as kube-apiserver's does: `pods "a" is forbidden: …`."""
    if not kind:
        return Status(403, _REASONS[403], f"forbidden: {message}", Details())
    qualified = f"{kind}.{group}" if group else kind
    subject = f'{qualified} "{name}"' if name else qualified
    return Status(403, _REASONS[403], f"{subject} is forbidden: {message}", Details(name, group, kind))


def not_found(message: str) -> Status:
    return failure(404, message)


def misdirected(message: str) -> Status:
    """421: this connection was authenticated for another host; the client opens a new one."""
    return failure(421, message)


def too_many_requests(message: str, retry_after_seconds: int = 1) -> Status:
    """429; 0 seconds: no Retry-After, the client does not try again."""
    return failure(429, message, retry_after_seconds)


def internal(message: str) -> Status:
    return failure(500, f"Internal error occurred: {message}")


def service_unavailable(message: str, retry_after_seconds: int = 1) -> Status:
    return failure(503, message, retry_after_seconds)


def timeout(message: str, retry_after_seconds: int = 0) -> Status:
    """504: nobody knows whether the request was carried out."""
    return failure(504, message, retry_after_seconds)


def encode(status: Status, accept: bytes | None = None) -> tuple[str, bytes]:
    """(content type, body) in the form that the client's Accept header asks for; JSON when none of ours is in it."""
    media_type = negotiate(accept, (JSON, YAML, PROTOBUF))
    if media_type == PROTOBUF:
        return media_type, _protobuf(status)
    if media_type == YAML:
        return media_type, yaml.safe_dump(status.document).encode()
    return media_type, json.dumps(status.document, separators=(",", ":")).encode() + b"\n"


def parse_status(document: Mapping[str, Any]) -> Status | None:
    """The failure that a decoded JSON document tells; None when it is no Status."""
    if document.get("kind") != "Status":
        return None
    told = document.get("details")
    details = None
    if isinstance(told, Mapping):
        name, group, kind, uid = (str(told.get(field) or "") for field in ("name", "group", "kind", "uid"))
        details = Details(name, group, kind, uid, _integer(told.get("retryAfterSeconds")))
    return Status(
        code=_integer(document.get("code")),
        reason=str(document.get("reason") or ""),
        message=str(document.get("message") or ""),
        details=details,
    )


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _protobuf(status: Status) -> bytes:
    """runtime.Unknown with the Status inside, behind the magic that tells Kubernetes' protobuf from any other."""
    raw = _text(2, "Failure") + _text(3, status.message) + _text(4, status.reason)
    if status.details is not None:
        raw += _field(5, _details(status.details))
    raw += _number(6, status.code)
    type_meta = _text(1, "v1") + _text(2, "Status")
    return _MAGIC + _field(1, type_meta) + _field(2, raw)


def _details(details: Details) -> bytes:
    words = _text(1, details.name) + _text(2, details.group) + _text(3, details.kind)
    return words + _number(5, details.retry_after_seconds) + _text(6, details.uid)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode("utf-8", "replace")) if text else b""


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
