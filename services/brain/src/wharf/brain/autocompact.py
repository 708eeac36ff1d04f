"""Automatic compaction, as etcd schedules it: keep a stretch of time, or a number of revisions.

Periodic: the revision is noted every tenth of the interval (the period, at most an hour); once the first period is over, each
interval compacts to the revision of a period ago. Revision: every five minutes, all but the last so many revisions.

The schedules are pure: they are told the time and the revision, and say what to compact and when to ask again. A compaction
counts as done only when the store says so, else it is tried again at the next turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from wharf.brain.config import Retention
from wharf.brain.errors import BrainError, Compacted
from wharf.common.clock import CLOCK, Clock
from wharf.common.log import get_log

if TYPE_CHECKING:
    from wharf.brain.store.store import Store

_HOUR: Final = 3600.0
_TENTHS: Final = 10
REVISION_INTERVAL: Final = 300.0  # seconds

_log = get_log("brain.autocompact")


class Schedule(Protocol):
    interval: float  # seconds between turns

    def turn(self, now: float, revision: int) -> int | None:
        """What to compact to at `now`, the store being at `revision`; None: nothing."""

    def succeeded(self, now: float, revision: int) -> None:
        """The compaction to `revision` is done."""


class PeriodicSchedule:
    """Keeps `period` seconds of history."""

    def __init__(self, period: float, now: float, revision: int) -> None:
        self._cycle = min(period, _HOUR)
        self.interval = self._cycle / _TENTHS
        self._noted: deque[int] = deque([revision], maxlen=int(period / self.interval) + 1)
        self._due = now + period
        self._last = 0

    def turn(self, now: float, revision: int) -> int | None:
        oldest = self._noted[0]
        self._noted.append(revision)
        return oldest if now >= self._due and oldest != self._last else None

    def succeeded(self, now: float, revision: int) -> None:
        self._last = revision
        self._due = now + self._cycle


class RevisionSchedule:
    """Keeps the last `count` revisions."""

    def __init__(self, count: int) -> None:
        self.interval = REVISION_INTERVAL
        self._count = count
        self._last = 0

    def turn(self, now: float, revision: int) -> int | None:
        target = revision - self._count
        return target if target > 0 and target != self._last else None

    def succeeded(self, now: float, revision: int) -> None:
        self._last = revision


def plan_schedule(retention: Retention, now: float, revision: int) -> Schedule | None:
    """The schedule that keeps `retention`; None when nothing is to be compacted by itself."""
    if retention.revisions:
        return RevisionSchedule(retention.revisions)
    return PeriodicSchedule(retention.seconds, now, revision) if retention.seconds else None


async def run_autocompact(store: Store, retention: Retention, clock: Clock = CLOCK) -> None:
    """Compact by schedule until cancelled."""
    schedule = plan_schedule(retention, clock.now(), store.revision)
    while schedule is not None:
        await asyncio.sleep(schedule.interval)
        target = schedule.turn(clock.now(), store.revision)
        if target is None:
            continue
        error = await _compact(store, target)
        if error is None or isinstance(error, Compacted):
            schedule.succeeded(clock.now(), target)
            _log.info("compacted by schedule", revision=target)
        else:
            _log.warn("scheduled compaction failed", revision=target, error=error.text)


async def _compact(store: Store, revision: int) -> BrainError | None:
    outcome: asyncio.Future[BrainError | None] = asyncio.get_running_loop().create_future()
    store.compact(revision, False, lambda error: None if outcome.done() else outcome.set_result(error))
    return await outcome
