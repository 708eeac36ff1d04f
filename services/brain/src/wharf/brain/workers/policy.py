"""When a worker is started again, and when one that does not move any more is ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.1  # seconds
MOST_DELAY = 10.0
STEADY = 60.0  # seconds of life after which a death is the first one again
MOST_STILL = 30  # looks, a second apart: counted, because a machine that slept has not looked


@dataclass(slots=True)
class Backoff:
    """How long the place of a worker stays empty."""

    deaths: int = 0  # in a row

    def died(self, lived: float) -> float:
        """Seconds until the next one, after a life of so many."""
        self.deaths = 1 if lived >= STEADY else self.deaths + 1
        return min(FIRST_DELAY * 2.0 ** min(self.deaths - 1, 20), MOST_DELAY)


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
