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


class Ticker:
    """Calls `work` every `interval()` seconds from its creation until `close`."""

    __slots__ = ("_interval", "_loop", "_timer", "_what", "_work")

    def __init__(self, what: str, interval: Callable[[], float], work: Callable[[], object]) -> None:
        """`what` names the work in the log."""
        self._what, self._interval, self._work = what, interval, work
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(interval(), self._tick)

    def close(self) -> None:
        """Call it no more; harmless when repeated, and from `work`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        attempt(self._what, self._work)
        if self._timer is not None:
            self._timer = self._loop.call_later(self._interval(), self._tick)
