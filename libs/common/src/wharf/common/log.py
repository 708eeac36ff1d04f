"""Structured logs on the standard library: one line per event, JSON or console, key=value.

`log = get_log("brain.store")`, then `log.info("compacted", revision=7, took=0.2)`. JSON lines carry etcd's keys
(level, ts, logger, msg), so what reads etcd's logs reads these. Not for the data plane's requests: a line costs
several microseconds; a level that is off costs one lookup.

What strangers can cause over and over (a handshake that fails, a request that breaks HTTP) fills no disk: of one
message so many lines a second are written, and the next line says how many were left out.

Invariant: a field whose name says secret is never printed, nor the password of a URL or a bearer token in any text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, Final, Literal, TextIO

from wharf.common.redact import hide_password

Format = Literal["json", "console"]
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
LINES_MAX: Final = 50  # of one message in a second
_ROOT: Final = "wharf"
_FIELDS: Final = "wharf_fields"
_SECRET: Final = re.compile(r"passw|secret|token|authorization|cookie|credential|private[-_]?key|api[-_]?key", re.I)
_BEARER: Final = re.compile(r"(authorization[\"':= ]+\w+|bearer)\s+[\w.~+/=-]{6,}", re.I)
_PLAIN: Final = re.compile(r"[^\s\"'=\x00-\x1f\x7f]+")


class Log:
    """A named logger; `bind` adds fields to every line."""

    __slots__ = ("_bound", "_logger")

    def __init__(self, logger: logging.Logger, bound: dict[str, object]) -> None:
        self._logger = logger
        self._bound = bound

    def bind(self, **fields: object) -> Log:
        return Log(self._logger, self._bound | fields)

    def debug(self, message: str, **fields: object) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write(logging.INFO, message, fields)

    def warn(self, message: str, **fields: object) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, *, cause: BaseException | None = None, **fields: object) -> None:
        """`cause`: an exception whose traceback belongs in the line."""
        self._write(logging.ERROR, message, fields, cause)

    def _write(self, level: int, message: str, fields: dict[str, object], cause: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, exc_info=cause, extra={_FIELDS: self._bound | fields})


def get_log(name: str, **fields: object) -> Log:
    """The logger `name`, without the project's prefix: "brain.store"."""
    return Log(logging.getLogger(f"{_ROOT}.{name}"), fields)


def setup(level: str = "info", format: Format = "console", stream: TextIO | None = None) -> None:
    """Send all logs of this process, other libraries' warnings included, to `stream` (default: stderr)."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.addFilter(Throttle())
    handler.setFormatter(JsonFormatter() if format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(LEVELS[level])


def redact(key: str, value: object) -> object:
    """`value` as it may be printed under `key`."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if _SECRET.search(key):
        return "***"
    if isinstance(value, list | tuple):
        return [redact(key, item) for item in value]
    return redact_text(value if isinstance(value, str) else str(value))


def redact_text(text: str) -> str:
    return _BEARER.sub(r"\1 ***", hide_password(text))


class Throttle(logging.Filter):
    """At most LINES_MAX lines of one message in a second; the next line that passes then has `left_out`."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._lines: dict[tuple[str, object], int] = {}
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._lines.clear()
        kind = record.name, record.msg
        lines = self._lines[kind] = self._lines.get(kind, 0) + 1
        if lines > LINES_MAX:
            self._left_out += 1
            return False
        if self._left_out:
            given: dict[str, object] = getattr(record, _FIELDS, {})
            setattr(record, _FIELDS, given | {"left_out": self._left_out})
            self._left_out = 0
        return True


class _Formatter(logging.Formatter):
    """What both forms share: time, logger name, redacted fields."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        given: dict[str, object] = getattr(record, _FIELDS, {})
        fields = {key: redact(key, value) for key, value in given.items()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = redact_text(f"{record.exc_info[0].__name__}: {record.exc_info[1]}")
            fields["stacktrace"] = redact_text(self.formatException(record.exc_info))
        return fields

    @staticmethod
    def stamp(record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    @staticmethod
    def logger(record: logging.LogRecord) -> str:
        return record.name.removeprefix(f"{_ROOT}.")


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "ts": self.stamp(record),
            "logger": self.logger(record),
            "msg": redact_text(record.getMessage()),
        }
        for key, value in self.fields(record).items():
            line[f"{key}_" if key in line else key] = value
        return json.dumps(line, ensure_ascii=False, default=str)


class ConsoleFormatter(_Formatter):
    """For people: time, level, logger, message, key=value; a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, record.levelname.lower()).upper()
        fields = self.fields(record)
        trace = fields.pop("stacktrace", "")
        message = " ".join(redact_text(record.getMessage()).splitlines())
        words = [f"{key}={_quote(value)}" for key, value in fields.items()]
        head = f"{self.stamp(record)} {level:<5} {self.logger(record)}  {message}"
        return "\n".join(filter(None, ("  ".join((head, *([" ".join(words)] if words else []))), trace)))


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
