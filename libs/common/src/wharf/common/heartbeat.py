"""What every service says of itself on NATS, so that whoever listens knows who lives and how. Pure.

Subject: `wharf.status.<service>.<instance>`, one message every few seconds and at each change; an instance that has
been silent for three intervals is stale, one that says `stopping` has gone in good order. Body: JSON, at most 512 KiB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PREFIX: Final = "wharf.status"
INTERVAL: Final = 5.0  # seconds
STALE_AFTER: Final = 3 * INTERVAL
BODY_MAX: Final = 512 * 1024
_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]")


class BadHeartbeat(ValueError):
    """Bytes that are no heartbeat."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How an instance is."""

    service: str  # "gateway"
    instance: str
    ready: bool
    started_at: float  # seconds since the epoch
    sent_at: float
    stopping: bool = False
    reason: str = ""  # why it is not ready
    addresses: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # the service's own: what it serves, counts


def subject_of(service: str, instance: str) -> str:
    """Where its heartbeats go; characters that NATS gives a meaning are replaced."""
    return f"{PREFIX}.{_TOKEN.sub('_', service)}.{_TOKEN.sub('_', instance)}"


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """JSON; details are left out when they make it too long."""
    known: dict[str, object] = {
        "service": beat.service,
        "instance": beat.instance,
        "ready": beat.ready,
        "startedAt": beat.started_at,
        "sentAt": beat.sent_at,
        "stopping": beat.stopping,
        "reason": beat.reason,
        "addresses": list(beat.addresses),
    }
    body = json.dumps(known | {"details": dict(beat.details)}, separators=(",", ":")).encode()
    if len(body) <= BODY_MAX:
        return body
    return json.dumps(known | {"details": {"omitted": "too long"}}, separators=(",", ":")).encode()


def parse_heartbeat(body: bytes) -> Heartbeat:
    """BadHeartbeat when it is none."""
    if len(body) > BODY_MAX:
        raise BadHeartbeat(f"{len(body)} bytes")
    try:
        known = json.loads(body)
        return Heartbeat(
            service=_text(known["service"]),
            instance=_text(known["instance"]),
            ready=known["ready"] is True,
            started_at=float(known["startedAt"]),
            sent_at=float(known["sentAt"]),
            stopping=known["stopping"] is True,
            reason=_text(known["reason"]),
            addresses=tuple(_text(item) for item in _list(known["addresses"])),
            details=dict(known["details"]),
        )
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise BadHeartbeat(f"not a heartbeat: {error}") from error


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
