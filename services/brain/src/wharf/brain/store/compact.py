"""Compaction: forgetting what no read may ask for any more, in small steps between other batches.

Compacting to C makes reads below C impossible at once (META `compact`, the store's doing); here is the walk that
deletes what that frees. It walks the log, so it touches only what it deletes: for each revision N up to C the
versions that ended at N, and the record of N itself unless N is C, which a watch may still start from. META
`compacted` tells how far the walk is finished, in the same batch as the deletions; a walk that was cut off goes on
from there. `plan_step` is pure; `Compactor` feeds its steps to the writer and watches the time they take."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wharf.brain.engine.base import Engine, EngineError, EngineFull, Table, Write
from wharf.brain.errors import BrainError, Stopped
from wharf.brain.store._log import ended_keys
from wharf.brain.store.keys import META_COMPACT, META_COMPACTED, encode_u64, hkey, log_key, parse_u64

log = logging.getLogger(__name__)

LEAST, MOST = 16, 8192  # deletions in one step
FIRST = 256
FULL_DELAY = 1.0  # seconds until a step that found no room is tried again

Submit = Callable[[Sequence[Write], Callable[[EngineError | None], None]], None]


class Progress(NamedTuple):
    """Revisions up to `finished` are dealt with, and `done` versions of the next one."""

    finished: int
    done: int = 0


class Step(NamedTuple):
    writes: list[Write]
    progress: Progress


def plan_step(records: Iterable[tuple[int, bytes]], progress: Progress, target: int, most: int) -> Step:
    """The next at most about `most` deletions on the way to `target`.

    `records`: (revision, log record) from `progress.finished` on. Repeating a step whose fate is unknown does no harm.
    """
    writes: list[Write] = []
    finished, done = progress
    for revision, record in records:
        if revision > target:
            finished = target
            break
        if revision > progress.finished:
            ended = ended_keys(record, revision)
            room = most - len(writes)
            writes += [(Table.HISTORY, hkey(key, revision), None) for key in ended[done : done + room]]
            if len(ended) - done > room:
                return Step(_with_progress(writes, progress, finished), Progress(finished, done + room))
            finished, done = revision, 0
        if revision < target:
            writes.append((Table.LOG, log_key(revision), None))
        if len(writes) >= most:
            break
    else:
        finished = target
    return Step(_with_progress(writes, progress, finished), Progress(finished))


def _with_progress(writes: list[Write], before: Progress, finished: int) -> list[Write]:
    if finished != before.finished:
        writes.append((Table.META, META_COMPACTED, encode_u64(finished)))
    return writes


def next_size(size: int, seconds: float, budget: float) -> int:
    """Deletions for the next step, so that it holds the writer for about half of `budget`."""
    if seconds > budget:
        return max(LEAST, size // 2)
    return min(MOST, size + size // 2) if seconds < budget / 2 else size


class Compactor:
    """Walks to the compact revision whenever that has moved; for the loop thread.

    `submit` queues deletions as a batch of their own between others and reports when it has landed; after each step
    the writer is left to others for as long as the step took."""

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        budget: float = 0.010,  # seconds a step may hold the writer
    ) -> None:
        self._engine, self._submit, self._now, self._call_later = engine, submit, now, call_later
        self._budget = budget
        self._size = FIRST
        self._walking = self._stopped = False
        self._waiting: list[tuple[int, Callable[[BrainError | None], None]]] = []
        snapshot = engine.snapshot()
        try:
            self._target = parse_u64(snapshot.get(Table.META, META_COMPACT))
            self.progress = Progress(parse_u64(snapshot.get(Table.META, META_COMPACTED)))
        finally:
            snapshot.close()

    def start(self) -> None:
        """Go on with a walk that an earlier process did not finish."""
        self.compact(self._target)

    def compact(self, revision: int) -> None:
        """Reads below `revision` are refused, durably: delete what they alone needed."""
        self._target = max(self._target, revision)
        if not self._walking and not self._stopped and self.progress.finished < self._target:
            self._walking = True
            self._walk()

    def when_compacted(self, revision: int, done: Callable[[BrainError | None], None]) -> None:
        """Call `done` once everything that compacting to `revision` frees is gone."""
        if self._stopped:
            done(Stopped())
        elif revision <= self.progress.finished:
            done(None)
        else:
            self._waiting.append((revision, done))

    def stop(self) -> None:
        """Submit nothing more; who waits is told. A step under way may still land."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(Stopped())

    def _walk(self) -> None:
        if self._stopped or self.progress.finished >= self._target:
            self._walking = False
            return
        snapshot = self._engine.snapshot()
        try:
            found = snapshot.scan(Table.LOG, log_key(self.progress.finished), None)
            records = ((int.from_bytes(stored, "big"), record) for stored, record in found)
            step = plan_step(records, self.progress, self._target, self._size)
        finally:
            snapshot.close()
        begun = self._now()
        self._submit(step.writes, lambda error: self._landed(step, self._now() - begun, error))

    def _landed(self, step: Step, seconds: float, error: EngineError | None) -> None:
        if isinstance(error, EngineFull):
            log.warning("no room to compact in, trying again: %s", error)
            self._size = max(LEAST, self._size // 2)
            self._call_later(FULL_DELAY, self._walk)
            return
        if error is not None:
            self._walking = False
            self.stop()
            return
        self._size = next_size(self._size, seconds, self._budget)
        self.progress = step.progress
        ready = [done for revision, done in self._waiting if revision <= self.progress.finished]
        self._waiting = [each for each in self._waiting if each[0] > self.progress.finished]
        for done in ready:
            done(None)
        if self.progress.finished < self._target:
            self._call_later(seconds, self._walk)
        else:
            self._walking = False
