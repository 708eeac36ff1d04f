"""One log on several outputs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TextIO


class Tee(io.TextIOBase):
    """Writes to all of `streams`."""

    def __init__(self, streams: Sequence[TextIO]) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
