"""What a worker and its parent say to each other about shared limits, in bytes. Pure.

Frames on a stream: four bytes of length, big endian, then JSON: [holder, [[key, kind, limit, rate, used, want] …]] one
way, [replicas, [grant …]] the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

from wharf.gateway.limits.exchange import ASKS_MAX, Answers, Ask, Kind

HEAD: Final = 4  # bytes
MOST: Final = 8 << 20  # bytes of a frame


class BadFrame(ValueError):
    """Bytes that are no frame of these."""


def encode_asks(holder: str, asks: Sequence[Ask]) -> bytes:
    told = [[ask.key, ask.kind.value, ask.limit, ask.rate, ask.used, ask.want] for ask in asks]
    return _frame([holder, told])


def encode_answers(answers: Answers) -> bytes:
    return _frame([answers.replicas, answers.grants])


def parse_length(head: bytes) -> int:
    """Bytes that follow the first `HEAD`; BadFrame."""
    length = int.from_bytes(head, "big")
    if length > MOST:
        raise BadFrame(f"{length} bytes")
    return length


def parse_asks(body: bytes) -> tuple[str, tuple[Ask, ...]]:
    """(holder, asks); BadFrame."""
    try:
        holder, told = json.loads(body)
        asks = tuple(
            Ask(_text(key), Kind(kind), *map(_number, (limit, rate, used, want)))
            for key, kind, limit, rate, used, want in told
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no asks: {error}") from error
    if len(asks) > ASKS_MAX:
        raise BadFrame(f"{len(asks)} asks")
    return _text(holder), asks


def parse_answers(body: bytes) -> Answers:
    """BadFrame."""
    try:
        replicas, grants = json.loads(body)
        return Answers(tuple(map(_number, grants)), int(_number(replicas)))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"no answers: {error}") from error


def _frame(told: object) -> bytes:
    body = json.dumps(told, separators=(",", ":")).encode()
    return len(body).to_bytes(HEAD, "big") + body


def _text(told: object) -> str:
    if not isinstance(told, str):
        raise BadFrame(f"no text: {told!r:.40}")
    return told


def _number(told: object) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float):
        raise BadFrame(f"no number: {told!r:.40}")
    number = float(told) if abs(told) < 1e300 else math.inf
    if not math.isfinite(number):
        raise BadFrame("no finite number")
    return number
