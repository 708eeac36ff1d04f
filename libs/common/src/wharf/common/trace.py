"""Trace context (W3C) and hand-placed spans.

A span marks a hop that decides something. Whoever starts one gets None when the trace is not sampled, so the unsampled
path is one comparison and no allocation; the caller writes `if span is not None`. Context travels by explicit passing:
a parent's `traceparent` bytes in, the span's `traceparent()` out.

Sampling: a valid parent decides; without one a trace is begun with probability `ratio`.
Invariant: a span is handed to the sink once, when it ends, and never changes afterwards.
Source: W3C Trace Context, levels 1 and 2.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from wharf.common.clock import CLOCK, Clock

SAMPLED: Final = 1
# Version 00 has exactly these fields, later ones may have more; ff is no version, all-zero ids are none.
_TRACEPARENT: Final = re.compile(
    rb"(?:(00)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?(1)|(?:-.*)?)",
    re.DOTALL,
)
_MAX_STATE: Final = 512  # characters of tracestate that must be carried on
_MAX_MEMBERS: Final = 32
MAX_ATTRIBUTES: Final = 64  # per span
MAX_EVENTS: Final = 64

Attribute = str | int | float | bool


class SpanContext(NamedTuple):
    """What goes over the wire about a span."""

    trace_id: bytes  # 16, not all zero
    span_id: bytes  # 8, not all zero
    flags: int
    state: str = ""  # tracestate, carried on as it came

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse_traceparent(value: bytes, state: bytes = b"") -> SpanContext | None:
    """The context in a `traceparent` (and `tracestate`) value; None when it is not a valid one, as the W3C text asks.

    A later version than 00 is read by its first four fields.
    """
    match = _TRACEPARENT.fullmatch(value)
    return None if match is None else _context(match, state)


def _context(match: re.Match[bytes], state: bytes) -> SpanContext:
    trace_id, span_id = bytes.fromhex(match[2].decode()), bytes.fromhex(match[3].decode())
    return SpanContext(trace_id, span_id, int(match[4], 16), parse_tracestate(state) if state else "")


def format_traceparent(context: SpanContext) -> bytes:
    """The `traceparent` value of `context`, version 00."""
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{context.flags:02x}".encode()


def parse_tracestate(value: bytes) -> str:
    """The members of a `tracestate` value, empty when it is unusable; past 32 members or 512 characters it is cut."""
    try:
        members = [member.strip(" \t") for member in value.decode("ascii").split(",")]
    except UnicodeDecodeError:
        return ""
    kept: list[str] = []
    for member in filter(None, members):
        key, equals, text = member.partition("=")
        printable = all(" " <= c <= "~" for c in text) and all("!" <= c <= "~" for c in key)
        if not (key and equals and text and printable) or "=" in text:
            return ""
        if len(kept) == _MAX_MEMBERS or len(",".join((*kept, member))) > _MAX_STATE:
            break
        kept.append(member)
    return ",".join(kept)


class Kind(IntEnum):
    """OTLP's span kinds."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span:
    """A sampled span under way. Not thread-safe: it belongs to whoever started it."""

    __slots__ = (
        "_tracer",
        "attributes",
        "context",
        "end_ns",
        "error",
        "events",
        "kind",
        "name",
        "parent_id",
        "start_ns",
    )

    def __init__(self, tracer: Tracer, name: str, kind: Kind, context: SpanContext, parent_id: bytes) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.context = context
        self.parent_id = parent_id  # empty: a root
        self.start_ns = tracer.clock.wall_ns()
        self.end_ns = 0  # 0: under way
        self.attributes: dict[str, Attribute] = {}
        self.events: list[tuple[int, str]] = []
        self.error: str | None = None

    def set(self, key: str, value: Attribute) -> None:
        """Record one attribute; past MAX_ATTRIBUTES new keys are left out."""
        if not self.end_ns and (len(self.attributes) < MAX_ATTRIBUTES or key in self.attributes):
            self.attributes[key] = value

    def event(self, name: str) -> None:
        """Something happened now; past MAX_EVENTS it is left out."""
        if not self.end_ns and len(self.events) < MAX_EVENTS:
            self.events.append((self._tracer.clock.wall_ns(), name))

    def fail(self, message: str) -> None:
        """The hop did not succeed."""
        if not self.end_ns:
            self.error = message

    def child(self, name: str, kind: Kind = Kind.INTERNAL) -> Span:
        return self._tracer.begin(name, kind, self.context)

    def traceparent(self) -> bytes:
        """What to send with requests made on behalf of this span."""
        return format_traceparent(self.context)

    def end(self) -> None:
        """Finish and hand over to the sink; later calls do nothing."""
        if not self.end_ns:
            self.end_ns = max(self._tracer.clock.wall_ns(), self.start_ns)
            self._tracer.sink(self)


class Tracer:
    """Starts spans. `sink` gets every ended span, on the caller's thread, and must return at once."""

    __slots__ = ("_random", "_threshold", "clock", "sink")

    def __init__(
        self, ratio: float, sink: Callable[[Span], None], clock: Clock = CLOCK, seed: int | None = None
    ) -> None:
        if not 0.0 <= ratio <= 1.0:
            raise ValueError("a sampling ratio is between 0 and 1")
        self._threshold = ratio
        self._random = random.Random(seed)  # noqa: S311 identifiers, not secrets
        self.sink = sink
        self.clock = clock

    def start(
        self, name: str, traceparent: bytes | None = None, tracestate: bytes = b"", kind: Kind = Kind.SERVER
    ) -> Span | None:
        """A span under the caller's context, or a new trace; None when not sampled."""
        if traceparent is not None:
            match = _TRACEPARENT.fullmatch(traceparent)
            if match is not None:
                if not int(match[4], 16) & SAMPLED:
                    return None
                return self.begin(name, kind, _context(match, tracestate))
        if self._threshold <= self._random.random():
            return None
        return self.begin(name, kind, None)

    def begin(self, name: str, kind: Kind, parent: SpanContext | None) -> Span:
        """A recorded span whatever the ratio says."""
        span_id = self._identifier(8)
        if parent is None:
            return Span(self, name, kind, SpanContext(self._identifier(16), span_id, SAMPLED), b"")
        context = SpanContext(parent.trace_id, span_id, parent.flags | SAMPLED, parent.state)
        return Span(self, name, kind, context, parent.span_id)

    def _identifier(self, size: int) -> bytes:
        while True:
            made = self._random.randbytes(size)
            if any(made):
                return made


def _drop(span: Span) -> None:
    """The sink of a process that exports nothing."""


OFF: Final = Tracer(0.0, _drop)
