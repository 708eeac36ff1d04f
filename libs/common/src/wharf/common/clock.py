"""The one place that reads a clock.

Leases, timeouts and deadlines are measured on CLOCK_BOOTTIME: it never jumps with the wall clock and goes on counting
while the machine sleeps, so nobody believes in a lease that ran out during a suspend. Wall time is for people only
(logs, traces).

Invariant: `now` never goes backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

boot_seconds: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""`CLOCK.now` without a call in between, for what is measured at every request."""


class Clock(Protocol):
    """Time as a parameter: code that decides by time takes a Clock and is tested with a FakeClock."""

    def now(self) -> float:
        """Seconds since some fixed point, suspend included; only differences mean anything."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, for people to read."""


class BootClock:
    """CLOCK_BOOTTIME of this machine."""

    __slots__ = ()

    def now(self) -> float:
        return boot_seconds()

    def wall_ns(self) -> int:
        return time.time_ns()


class FakeClock:
    """A clock that moves when told to."""

    __slots__ = ("_now", "_wall_ns")

    def __init__(self, now: float = 0.0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = now
        self._wall_ns = wall_ns

    def now(self) -> float:
        return self._now

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        """Move both clocks on; time never runs backwards, so a negative step is a mistake of the test."""
        if seconds < 0:
            raise ValueError("a clock does not run backwards")
        self._now += seconds
        self._wall_ns += round(seconds * 1e9)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as NTP or an operator may; `now` does not notice."""
        self._wall_ns += round(seconds * 1e9)


CLOCK: Final[Clock] = BootClock()
