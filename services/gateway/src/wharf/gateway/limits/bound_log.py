"""Log lines about bounds that were reached: one for each bound in so many seconds, however many requests reach it.

Pure but for the log; time is an argument. The kinds of bounds are the caller's constants, so memory is bounded.
"""

from __future__ import annotations

from typing import Final

from wharf.common.log import Log

INTERVAL: Final = 10.0  # seconds between two lines of one bound


class BoundLog:
    """The lines of one cluster."""

    __slots__ = ("_cluster", "_due", "_log", "_silent")

    def __init__(self, log: Log, cluster: str) -> None:
        self._log, self._cluster = log, cluster
        self._due: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def note(self, bound: str, now: float, **fields: object) -> None:
        """A request reached `bound`. The line says how many have since the line before."""
        silent = self._silent.get(bound, 0)
        if now < self._due.get(bound, now):
            self._silent[bound] = silent + 1
            return
        self._due[bound], self._silent[bound] = now + INTERVAL, 0
        self._log.warn("a bound is reached", cluster=self._cluster, bound=bound, requests=silent + 1, **fields)
