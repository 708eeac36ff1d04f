"""Runs automatic compaction by the schedule that `--auto-compaction-mode` and `-retention` describe."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wharf.brain.config_rules import Retention
from wharf.brain.errors import BrainError, Compacted
from wharf.brain.store.auto_compact import AutoCompaction, ByRevision, Periodic
from wharf.common.clock import CLOCK, Clock
from wharf.common.log import get_log

if TYPE_CHECKING:
    from wharf.brain.store.store import Store

_log = get_log("brain.autocompact")


def plan_autocompact(retention: Retention, now: float, revision: int) -> AutoCompaction | None:
    """The schedule that keeps `retention`; None when nothing is to be compacted by itself."""
    if retention.revisions:
        return ByRevision(retention.revisions)
    return Periodic(retention.seconds, now, revision) if retention.seconds else None


async def run_autocompact(store: Store, retention: Retention, clock: Clock = CLOCK) -> None:
    """Compact by schedule until cancelled. What fails is tried again at the next look."""
    schedule = plan_autocompact(retention, clock.now(), store.revision)
    while schedule is not None:
        await asyncio.sleep(schedule.interval)
        target = schedule.look(clock.now(), store.revision)
        if target is None or not store.leads:
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
