"""Compaction: forgetting what no read may ask for any more, in small steps between other batches.

Compacting to C makes reads below C impossible at once (META `compact`, the store's doing); here is the walk that
deletes what that frees. It walks the log, so it touches only what it deletes: for each revision N up to C the
versions that ended at N, and the record of N itself unless N is C, which a watch may still start from. META
`compacted` tells how far the walk is finished, in the same batch as the deletions; a walk that was cut off goes on
from there. `plan_step` is pure; `Compactor` feeds its steps to the writer and watches the time they take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wharf.brain.engine._lmdb import LmdbError, ReadTxn
from wharf.brain.engine.base import Engine, EngineError, EngineFull, Snapshot, Table, Write
from wharf.brain.errors import BrainError, Stopped
from wharf.brain.store import _log
from wharf.brain.store.keys import META_COMPACT, META_COMPACTED, encode_u64, hkey, log_key, parse_u64

log = logging.getLogger(__name__)

LEAST, MOST = 16, 2048  # deletions in one step
FIRST = 256
FULL_DELAY = 1.0  # seconds until a step that found no room is tried again
TRIES = 5  # of a step that fails for another reason than the engine

Submit = Callable[[Sequence[Write], Callable[[EngineError | None], None]], None]


class Progress(NamedTuple):
    """Revisions up to `finished` are dealt with, and `done` versions of the next one."""

    finished: int
    done: int = 0


Ended = tuple[int, list[bytes], bool]
"""(revision, keys whose earlier version ended there, whether these are all of them)."""


class Step(NamedTuple):
    writes: list[Write]
    progress: Progress


def plan_step(ended: Iterable[Ended], to_target: bool, progress: Progress, target: int) -> Step:
    """The deletions that what `ended_since` found calls for. Repeating a step whose fate is unknown does no harm."""
    writes: list[Write] = []
    finished = progress.finished
    for revision, keys, whole in ended:
        writes += [(Table.HISTORY, hkey(key, revision), None) for key in keys]
        if not whole:
            skipped = progress.done if finished == progress.finished else 0
            return Step(_with_progress(writes, progress, finished), Progress(finished, skipped + len(keys)))
        finished = revision
        if revision < target:
            writes.append((Table.LOG, log_key(revision), None))
    if to_target:
        finished = target
    return Step(_with_progress(writes, progress, finished), Progress(finished))


def ended_since(snapshot: Snapshot, progress: Progress, target: int, most: int) -> tuple[list[Ended], bool]:
    """(what ended at each revision on the way to `target`, at most about `most` records to delete; whether it is
    reached).

    Begins with revision `progress.finished` itself, whose versions are deleted already but whose log record may be
    left.
    """
    if isinstance(snapshot, ReadTxn):
        return _log.ended_since(snapshot, progress.finished, progress.done, target, most)
    found: list[Ended] = []
    skip, total = progress.done, 0
    for stored, record in snapshot.scan(Table.LOG, log_key(progress.finished), log_key(target + 1)):
        if total >= most:
            return found, False
        revision = int.from_bytes(stored, "big")
        keys: list[bytes] = []
        whole = True
        if revision > progress.finished:
            keys, whole = _log.ended_in(record, revision, skip, most - total)
            skip = 0
        found.append((revision, keys, whole))
        if not whole:
            return found, False
        total += len(keys) + 1
    return found, True


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
    the writer is left to others for as long as the step took.
    """

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
        self._failures = 0  # in a row
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
            self._walk_on()

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
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(Stopped())

    def _end(self) -> None:
        """The engine has failed."""
        self._walking = False
        self.stop()

    def _walk_on(self) -> None:
        if self._stopped:
            self._walking = False
            return
        try:
            self._walk()
        except (EngineError, LmdbError) as error:
            log.error("compaction ends because the engine fails: %s; restart the brain to go on with it", error)
            self._end()
        except Exception:
            self._failures += 1
            if self._failures < TRIES:
                log.exception("a step of a compaction failed; it is tried again")
                self._call_later(FULL_DELAY, self._walk_on)
                return
            log.exception("a step of a compaction failed %d times in a row; the next one begins with it", TRIES)
            self._failures = 0
            self._walking = False
            self._refuse_waiting()

    def _walk(self) -> None:
        if self.progress.finished >= self._target:
            self._walking = False
            return
        begun = self._now()
        snapshot = self._engine.snapshot()
        try:
            ended, to_target = ended_since(snapshot, self.progress, self._target, self._size)
        finally:
            snapshot.close()
        step = plan_step(ended, to_target, self.progress, self._target)
        self._submit(step.writes, lambda error: self._landed(step, self._now() - begun, error))

    def _landed(self, step: Step, seconds: float, error: EngineError | None) -> None:
        if isinstance(error, EngineFull):
            log.warning("no room to compact in, trying again: %s", error)
            self._size = max(LEAST, self._size // 2)
            self._call_later(FULL_DELAY, self._walk_on)
            return
        if error is not None:
            self._end()
            return
        self._failures = 0
        self._size = next_size(self._size, seconds, self._budget)
        self.progress = step.progress
        ready = [done for revision, done in self._waiting if revision <= self.progress.finished]
        self._waiting = [each for each in self._waiting if each[0] > self.progress.finished]
        for done in ready:
            done(None)
        if self.progress.finished < self._target:
            self._call_later(seconds, self._walk_on)
        else:
            self._walking = False
