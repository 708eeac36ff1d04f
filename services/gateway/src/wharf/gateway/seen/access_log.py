"""The access log: one JSON object per request, fields chosen per cluster, nothing secret in it.

Credentials never get here: no header but the user agent and the audit id is read, and the query is written only with
the values of the parameters that Kubernetes' own API defines (a `command=` of exec may hold a password). The query of a
proxied application is that application's, and not written at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

FIELDS: Final = (
    "time", "cluster", "server", "method", "path", "query", "verb", "group", "resource", "subresource", "namespace",
    "name", "user", "groups", "impersonated", "client", "forwarded_for", "user_agent", "status", "reason", "policy",
    "attempts", "seconds", "bytes_in", "bytes_out", "protocol", "audit_id", "trace_id", "slow",
)  # fmt: skip
SHOWN_PARAMETERS: Final = frozenset(
    (
        "allowWatchBookmarks", "container", "continue", "dryRun", "fieldManager", "fieldSelector", "fieldValidation",
        "follow", "gracePeriodSeconds", "labelSelector", "limit", "orphanDependents", "pretty", "previous",
        "propagationPolicy", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "sinceSeconds",
        "sinceTime", "stderr", "stdin", "stdout", "tailLines", "timeout", "timeoutSeconds", "timestamps", "tty",
        "watch",
    )
)  # fmt: skip
HIDDEN: Final = "***"
_PROXY: Final = "proxy"  # of pods, services, nodes; and a verb of old
TEXT_MAX: Final = 1024  # characters of one field


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a finished request. None: not known."""

    cluster: str
    server: str
    method: str
    target: bytes
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str | None
    groups: tuple[str, ...] | None
    impersonated: str | None
    client: str
    forwarded_for: str | None
    user_agent: str | None
    status: int
    reason: str
    policy: str
    attempts: int
    seconds: float
    bytes_in: int
    bytes_out: int
    protocol: str
    audit_id: str | None
    trace_id: str | None
    slow: bool


def hide_query(query: str) -> str:
    """The query with unknown parameters hidden, of those with a value only that: "command=***&stdin=true"."""
    shown = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if name in SHOWN_PARAMETERS or not part:
            shown.append(part)
        else:  # what stands alone, or ends in "=" as base64 does, may be no name
            shown.append(f"{name}={HIDDEN}" if equals and value.strip("=") else HIDDEN)
    return "&".join(shown)


def encode_record(record: Record, wall: float, fields: Iterable[str] = ()) -> str:
    """One line. `wall`: seconds since the epoch; `fields`: the ones wanted, none: all. Unknown values are left out."""
    wanted = frozenset(fields) or frozenset(FIELDS)
    path, _, query = record.target.decode("utf-8", "backslashreplace").partition("?")
    values: dict[str, object] = {
        "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
        "path": path,
        "query": (HIDDEN if _PROXY in (record.subresource, record.verb) else hide_query(query)) if query else None,
        "seconds": round(record.seconds, 6),
        "groups": list(record.groups) if record.groups is not None else None,
        "slow": record.slow or None,
    }
    line: dict[str, object] = {}
    for name in FIELDS:
        value = values[name] if name in values else getattr(record, name)
        if name in wanted and value is not None and value != "":
            line[name] = value[:TEXT_MAX] if isinstance(value, str) else value
    return json.dumps(line, separators=(",", ":"))


class AccessLog:
    """Writes lines through `write`; a destination that fails is counted and never holds a request up."""

    def __init__(self, write: Callable[[str], object], wall: Callable[[], float]) -> None:
        self._write, self._wall = write, wall
        self.failed = 0

    def add(self, record: Record, fields: tuple[str, ...]) -> None:
        try:
            self._write(encode_record(record, self._wall(), fields) + "\n")
        except (OSError, ValueError):
            self.failed += 1
