"""Loses, doubles and disorders the messages a NATS server sends to one client; the rest of the protocol passes.

Pure: bytes in, bytes out. Invariant: what comes out is a stream of whole frames, so the client sees a network that
misbehaves, never a broken server.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

_LINE_END = b"\r\n"
_KEPT = 50  # messages that may be repeated much later


@dataclass(frozen=True, slots=True)
class Rates:
    """How often, per message, each thing happens to it."""

    drop: float = 0.0
    duplicate: float = 0.0  # of this message, or of one of the last ones
    reorder: float = 0.0  # it comes after the next ones


class NatsFaults:
    """One direction of one connection."""

    def __init__(self, rates: Rates, seed: int = 0) -> None:
        self.rates = rates
        self.dropped = self.duplicated = self.reordered = 0
        self._random = random.Random(seed)
        self._pending = b""
        self._held: list[bytes] = []
        self._recent: deque[bytes] = deque(maxlen=_KEPT)

    def feed(self, data: bytes) -> bytes:
        """What to hand on, now that `data` has come."""
        self._pending += data
        out: list[bytes] = []
        while (size := _frame_size(self._pending)) is not None:
            frame, self._pending = self._pending[:size], self._pending[size:]
            if frame.startswith((b"MSG ", b"HMSG ")):
                out += self._message(frame)
            else:
                out += [*self._release(), frame]
        return b"".join(out)

    def _message(self, frame: bytes) -> list[bytes]:
        self._recent.append(frame)
        if self._random.random() < self.rates.drop:
            self.dropped += 1
            return []
        if self._random.random() < self.rates.reorder:
            self.reordered += 1
            self._held.append(frame)
            return []
        out = [frame]
        if self._random.random() < self.rates.duplicate:
            self.duplicated += 1
            out.append(self._random.choice((frame, self._random.choice(self._recent))))
        return [*out, *self._release()] if self._random.random() < 0.5 else out

    def _release(self) -> list[bytes]:
        held, self._held = self._held, []
        self._random.shuffle(held)
        return held


def _frame_size(data: bytes) -> int | None:
    """Bytes of the first frame of `data`, None while it is not whole."""
    end = data.find(_LINE_END)
    if end < 0:
        return None
    size = end + len(_LINE_END)
    if data.startswith((b"MSG ", b"HMSG ")):
        size += int(data[:end].rsplit(b" ", 1)[1]) + len(_LINE_END)  # the last word counts headers and payload
    return size if len(data) >= size else None
