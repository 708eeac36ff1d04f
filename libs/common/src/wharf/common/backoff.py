"""How long the place of a process stays empty after it died. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.1  # seconds
MOST_DELAY = 10.0
STEADY = 60.0  # seconds of life after which a death is the first one again


@dataclass(slots=True)
class Backoff:
    """How long the place of a worker stays empty."""

    deaths: int = 0  # in a row

    def died(self, lived: float) -> float:
        """Seconds until the next one, after a life of so many."""
        self.deaths = 1 if lived >= STEADY else self.deaths + 1
        return min(FIRST_DELAY * 2.0 ** min(self.deaths - 1, 20), MOST_DELAY)
