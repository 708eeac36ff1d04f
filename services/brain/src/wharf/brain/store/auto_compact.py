"""When the store compacts by itself, by etcd's rules: keep history of some time, or of some revisions. Pure.

Periodic: the revision is noted every tenth of the period (of an hour, if the period is longer); nothing is compacted
during the first period; then, every period but at least hourly, to the revision noted one period ago. By revision:
every five minutes, to so many revisions before the present one.

The caller looks every `interval` seconds: `look` says what to compact to, `succeeded` tells that this was done.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

HOUR = 3600.0
LOOKS_PER_INTERVAL = 10
REVISION_INTERVAL = 300.0


class AutoCompaction(Protocol):
    @property
    def interval(self) -> float:
        """Seconds between looks; the first is due that long after the start."""

    def look(self, now: float, revision: int) -> int | None:
        """The revision to compact to, if it is time. `revision`: the present one."""

    def succeeded(self, now: float, revision: int) -> None:
        """Compacting to `revision` is done, or had been done already."""


class Periodic:
    """Keep `period` seconds of history. Made at `now`, at `revision`."""

    def __init__(self, period: float, now: float, revision: int) -> None:
        self._period = period
        self._every = min(period, HOUR)
        self.interval = self._every / LOOKS_PER_INTERVAL
        self._noted = deque([revision], maxlen=int(period / self.interval) + 1)
        self._wait = period  # the first time; later `_every`
        self._last_success = now
        self._last_revision = 0

    def look(self, now: float, revision: int) -> int | None:
        oldest = self._noted[0]
        self._noted.append(revision)
        if now - self._last_success < self._wait or oldest == self._last_revision:
            return None
        self._wait = self._every
        return oldest

    def succeeded(self, now: float, revision: int) -> None:
        self._last_success, self._last_revision = now, revision


class ByRevision:
    """Keep `retention` revisions of history."""

    interval = REVISION_INTERVAL

    def __init__(self, retention: int) -> None:
        self._retention = retention
        self._last_revision = 0

    def look(self, now: float, revision: int) -> int | None:
        target = revision - self._retention
        return target if target > 0 and target != self._last_revision else None

    def succeeded(self, now: float, revision: int) -> None:
        self._last_revision = revision
