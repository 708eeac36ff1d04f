"""What a worker and the process that started it tell each other over one socket. Pure.

Frames: one byte of kind, four bytes of length (big endian), the body.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

HEAD: Final = 5  # bytes
MOST: Final = 8 << 20  # bytes of a body


class Word(Enum):
    """Kinds of frames, all from the worker; the parent speaks by signals."""

    READY = b"r"  # no body: it serves
    UNREADY = b"u"  # body: why, as text
    METRICS = b"m"  # body: a report of wharf.common.report, its head included
    STATUS = b"s"  # body: JSON, see api.status


class BadFrame(ValueError):
    """Bytes that are no frame."""


def encode_frame(word: Word, body: bytes = b"") -> bytes:
    """ValueError when the body is too long."""
    if len(body) > MOST:
        raise ValueError(f"a frame of {len(body)} bytes")
    return word.value + len(body).to_bytes(4, "big") + body


def parse_head(head: bytes) -> tuple[Word, int]:
    """(kind, length of the body) of the first HEAD bytes; BadFrame."""
    length = int.from_bytes(head[1:HEAD], "big")
    try:
        word = Word(head[:1])
    except ValueError:
        raise BadFrame(f"no kind of frame: {head[:1]!r}") from None
    if len(head) != HEAD or length > MOST:
        raise BadFrame(f"a frame of {length} bytes")
    return word, length
