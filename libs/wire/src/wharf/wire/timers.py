"""Periodic work on the event loop: an exception is logged, and the work goes on with the next turn.

A timer that re-arms itself after its work ends for ever at the first exception, and with it every timeout that it
looks after. So all periodic work runs here, or by `attempt`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVarTuple

log = logging.getLogger("wharf.timers")
_Arguments = TypeVarTuple("_Arguments")


def attempt(what: str, work: Callable[[*_Arguments], object], *arguments: *_Arguments) -> bool:
    """Call `work`. An exception is logged with `what`, the thing that was done; then the result is False."""
    try:
        work(*arguments)
    except Exception:
        log.exception("%s failed; it is tried again at its next turn", what)
        return False
    return True


class Attempts:
    """`attempt` for work that is done several times a second: of failures in a row the first is logged, the others are
    counted.
    """

    __slots__ = ("_what", "failures")

    def __init__(self, what: str) -> None:
        self._what = what
        self.failures = 0  # in a row

    def __call__(self, work: Callable[[*_Arguments], object], *arguments: *_Arguments) -> bool:
        try:
            work(*arguments)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                log.exception("%s failed; it is tried again, and the next failures are only counted", self._what)
            return False
        if self.failures > 1:
            log.warning("%s works again after %d failures in a row", self._what, self.failures)
        self.failures = 0
        return True


class Ticker:
    """Calls `work` every `interval()` seconds from its creation until `close`. If `interval` fails, the last stays."""

    __slots__ = ("_interval", "_loop", "_seconds", "_timer", "_what", "_work")

    def __init__(self, what: str, interval: Callable[[], float], work: Callable[[], object]) -> None:
        """`what` names the work in the log."""
        self._what, self._interval, self._work = what, interval, work
        self._loop = asyncio.get_running_loop()
        self._seconds = interval()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(self._seconds, self._tick)

    def close(self) -> None:
        """Call it no more; harmless when repeated, and from `work`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        attempt(self._what, self._work)
        if self._timer is not None:
            attempt(f"find how often to {self._what}", self._read_interval)
            self._timer = self._loop.call_later(self._seconds, self._tick)

    def _read_interval(self) -> None:
        self._seconds = self._interval()
