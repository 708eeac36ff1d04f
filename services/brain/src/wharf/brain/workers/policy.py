"""When a worker that does not move any more is ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MOST_STILL = 30  # looks, a second apart: counted, because a machine that slept has not looked


@dataclass(slots=True)
class Watchdog:
    """Looks at what a worker has acted upon: one that is behind and stays where it is holds its state's pages."""

    still: int = 0  # looks in a row
    _seen: int = -1

    def look(self, seen: int, published: int) -> bool:
        """Whether it is to be ended."""
        self.still = self.still + 1 if seen == self._seen and seen != published else 0
        self._seen = seen
        return self.still >= MOST_STILL
