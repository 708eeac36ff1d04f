"""/health, /livez, /readyz, /healthz and /version, in etcd's words.

Pure: a path and a query in, a page out. What is checked is asked through `Checks`, so that a probe exercises the
store the way a client would: it reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from wharf.brain.errors import BrainError

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checks:
    """What health is made of."""

    alarms: Callable[[], Iterable[str]]  # active ones, by etcd's names
    read: Callable[[], object]  # one read; raises what a client would get
    draining: Callable[[], bool]  # on the way out: alive, but no longer ready
    unready: Callable[[], str] = lambda: ""  # why clients should ask another node, empty: they need not


_NO_SNIFF: Final = {"X-Content-Type-Options": "nosniff"}
_KNOWN_ALARMS: Final = ("NOSPACE", "CORRUPT")
_LIVE: Final = ("serializable_read",)
_READY: Final = ("data_corruption", "serializable_read", "linearizable_read", "non_learner")


class HealthPages:
    """Answers probes; `count` is told of every check with its outcome."""

    def __init__(self, checks: Checks, versions: Mapping[str, str], count: Callable[[str, str, bool], None]) -> None:
        self._checks = checks
        self._versions = json.dumps(dict(versions), separators=(",", ":")).encode()
        self._count = count

    def page(self, method: str, path: str, query: str) -> Page | None:
        """The page at `path`; None when there is none."""
        kind, _, check = path.removeprefix("/").partition("/")
        known = {"livez": _LIVE, "readyz": _READY, "healthz": _READY}.get(kind)
        if path not in ("/health", "/version") and (known is None or (check and check not in known)):
            return None
        if method not in ("GET", "HEAD"):
            return Page(405, b"Method Not Allowed\n", TEXT, {"Allow": "GET", **_NO_SNIFF})
        options = parse_qs(query, keep_blank_values=True)
        if path == "/version":
            return Page(200, self._versions, JSON)
        if path == "/health":
            return self._health(set(options.get("exclude", ())))
        names = (check,) if check else known or ()
        return self._list(kind, [name for name in names if name not in options.get("exclude", ())], options)

    def _health(self, excluded: set[str]) -> Page:
        reason = self._unhealthy(excluded)
        self._count("health", "", not reason)
        body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":")).encode()
        return Page(503, body + b"\n", TEXT, _NO_SNIFF) if reason else Page(200, body, TEXT)

    def _unhealthy(self, excluded: set[str]) -> str:
        for alarm in self._checks.alarms():
            if alarm not in excluded:
                return f"ALARM {alarm if alarm in _KNOWN_ALARMS else 'UNKNOWN'}"
        error = self._read_error() or self._checks.unready()
        return f"RANGE ERROR:{error}" if error else ""

    def _list(self, kind: str, names: Iterable[str], options: Mapping[str, list[str]]) -> Page:
        lines: list[str] = []
        failed = False
        for name in names:
            error = self._failure(kind, name)
            self._count(kind, name, not error)
            failed = failed or bool(error)
            lines.append(f"[-]{name} failed: {error}\n" if error else f"[+]{name} ok\n")
        if failed:
            return Page(503, ("".join(lines) + "\n").encode(), TEXT, _NO_SNIFF)
        detail = "".join(lines) if "verbose" in options else ""
        return Page(200, f"{detail}ok\n".encode(), TEXT, _NO_SNIFF)

    def _failure(self, kind: str, name: str) -> str:
        if name == "data_corruption":
            return "alarm activated: CORRUPT" if "CORRUPT" in self._checks.alarms() else ""
        if name == "linearizable_read" and kind != "livez":
            if self._checks.draining():
                return "etcdserver: server stopped"
            if unready := self._checks.unready():
                return unready
        return self._read_error() if name.endswith("_read") else ""

    def _read_error(self) -> str:
        try:
            self._checks.read()
        except BrainError as error:
            return error.text
        return ""
