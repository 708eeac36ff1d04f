"""What a node holds of a shared engine: a scratch LMDB store that all reads go to.

Made anew at each start and never synced, for the authority has everything. Writes are queued and shown in order, like a
commit; lookups for what is derived from the log see what is queued already. Loading writes the next generation of the
file aside and exchanges it whole, so readers see the state before or after and keep what they hold.

Invariant: what is queued follows without a gap on what is shown.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wharf.brain.engine import lmdb_dir
from wharf.brain.engine._commit import Committer
from wharf.brain.engine._lmdb import MAP_FULL, Env, LmdbError, describe
from wharf.brain.engine.base import (
    FIRST_REVISION,
    FORMAT,
    Batch,
    EngineError,
    EngineFull,
    Table,
    Write,
)
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.store.compact import FULL_DELAY, TRIES, Progress, ended_since, plan_step

log = logging.getLogger(__name__)

PREFIX = "replica-"
TRIM_STEP = 512  # deletions at once
Done = Callable[[EngineError | None], None]


def scratch(parent: Path) -> Path:
    """A new directory for a replica; those of processes that are gone are removed."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.glob(f"{PREFIX}*"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))


def _abandoned(directory: Path) -> bool:
    try:
        fd = os.open(directory / "LOCK", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # not a replica, or one that is just being made
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class Replica(LmdbEngine):
    """For the loop thread, except where a method says otherwise."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, unsafe_no_fsync=True)
        self.home = directory
        self.queued_revision = FIRST_REVISION  # once all that is queued is shown
        self._generation = 1
        self._queued: dict[bytes, tuple[int, bytes | None]] = {}  # storage key → (ticket, NOW's value)
        self._tickets = self._shown = 0
        self._waiting_for: deque[tuple[int, asyncio.Future[None]]] = deque()  # ticket, who waits for it
        self._exchanging = threading.Lock()
        self._trimmed = 0  # the log is walked up to here
        self._trim_to = 0
        self._trimming = False

    def queue(self, writes: Sequence[Write], now: Mapping[bytes, bytes | None], revision: int, done: Done) -> None:
        """Show `writes` as `revision`, after all that is queued; `now` is what they make of NOW.

        When `done` tells of an error, nothing of it is shown, and what was queued after it must not be trusted.
        """
        before, ticket = self.queued_revision, self._tickets + 1

        def shown(error: EngineError | None) -> None:
            self._shown = ticket
            for key in now:
                held = self._queued.get(key)
                if held is not None and held[0] == ticket:
                    del self._queued[key]
            if error is not None and ticket == self._tickets:
                self.queued_revision = before
            while self._waiting_for and self._waiting_for[0][0] <= ticket:
                waiter = self._waiting_for.popleft()[1]
                if not waiter.done():
                    waiter.set_result(None)
            done(error)

        self.submit(Batch(0, before, revision, writes), shown)
        self._tickets, self.queued_revision = ticket, revision
        for key, value in now.items():
            self._queued[key] = (ticket, value)

    async def drained(self) -> None:
        """Returns once everything queued so far is shown or has failed."""
        if self._shown < self._tickets:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting_for.append((self._tickets, waiter))
            await waiter

    def read(self, table: int, key: bytes) -> bytes | None:
        """What is shown."""
        snapshot = self.snapshot()
        try:
            return snapshot.get(table, key)
        finally:
            snapshot.close()

    @contextmanager
    def lookups(self) -> Iterator[Callable[[bytes], bytes | None]]:
        """What NOW holds for a storage key once all that is queued now is shown."""
        snapshot, queued = self.snapshot(), self._queued

        def lookup(stored: bytes) -> bytes | None:
            held = queued.get(stored)
            return snapshot.get(Table.NOW, stored) if held is None else held[1]

        try:
            yield lookup
        finally:
            snapshot.close()

    # Compaction

    def trim(self, target: int) -> None:
        """Forget what a compaction up to `target`, which must be shown already, frees; in small steps."""
        self._trim_to = max(self._trim_to, target)
        if not self._trimming and self._trimmed < self._trim_to and not self._closed:
            self._trimming = True
            self._trim_on(Progress(self._trimmed), asyncio.get_running_loop())

    def is_trimmed(self, target: int) -> None:
        """The writer has done it in its own steps."""
        if not self._trimming and self._trimmed == self._trim_to:
            self._trimmed = self._trim_to = max(self._trimmed, target)
        else:
            self._trim_to = max(self._trim_to, target)

    def _trim_on(self, progress: Progress, loop: asyncio.AbstractEventLoop, failures: int = 0) -> None:
        """The next step; `failures`: so many attempts at it in a row have failed."""
        try:
            self._trim_step(progress, loop)
        except (EngineError, LmdbError) as error:
            log.error("trimming the replica ends because its engine fails: %s", error)
            self._trimming = False  # what is left goes with the next compaction
        except Exception:
            if failures + 1 < TRIES:
                log.exception("a step of trimming the replica failed; it is tried again")
                loop.call_later(FULL_DELAY, self._trim_on, progress, loop, failures + 1)
                return
            log.exception("a step of trimming the replica failed %d times in a row; the next one begins with it", TRIES)
            self._trimming = False

    def _trim_step(self, progress: Progress, loop: asyncio.AbstractEventLoop) -> None:
        if self._closed or not self._trimming:
            return
        begun = loop.time()
        snapshot = self.snapshot()
        try:
            ended, reached = ended_since(snapshot, progress, self._trim_to, TRIM_STEP)
        finally:
            snapshot.close()
        step = plan_step(ended, reached, progress, self._trim_to)
        deletions = [write for write in step.writes if write[0] != Table.META]

        def done(error: EngineError | None) -> None:
            self._trimmed = step.progress.finished if error is None else self._trimmed
            if error is not None or self._trimmed >= self._trim_to:
                self._trimming = False  # what an error left goes with the next compaction
            else:
                loop.call_later(loop.time() - begun, self._trim_on, step.progress, loop)

        self.queue(deletions, {}, self.queued_revision, done)

    # Exchange

    def next_generation(self) -> Loading:
        """Where to load to."""
        self._generation = max(self._generation, int(lmdb_dir.NAME.fullmatch(Path(self._env.path).name)[1])) + 1  # type: ignore[index]  # ours
        return Loading(self.home / f"store-{self._generation}.mdb", self._map_size)

    async def exchange(self, loaded: Loading, revision: int, compacted: int) -> None:
        """Show what was loaded, and nothing of what was before. Nothing may be queued."""
        await asyncio.to_thread(self._exchange, loaded.env)
        self.queued_revision = revision
        self._trimmed = self._trim_to = compacted
        self._trimming = False

    def defragment(self) -> None:
        with self._exchanging:
            super().defragment()

    def _exchange(self, env: Env) -> None:
        with self._exchanging:
            self._check_open()
            old = self._env
            self._committer.pause()
            self._env = env
            self._committer.resume(env)
        for path in (old.path, f"{old.path}-lock"):
            Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        with self._exchanging:
            super().close()
        shutil.rmtree(self.home, ignore_errors=True)


class Loading:
    """The next generation while it is filled; blocking, for worker threads, one at a time."""

    def __init__(self, path: Path, map_size: int) -> None:
        self._path = path
        try:
            self.env = lmdb_dir.map_file(path, map_size, sync=False, create=True)
            self.env.initialise(FORMAT, FIRST_REVISION)
        except LmdbError as error:
            raise EngineFull(f"cannot make a replica in {path.parent}: {error}") from error
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._committer = Committer(self.env, self._event)
        self._revision = FIRST_REVISION

    def add(self, writes: Sequence[Write], revision: int | None = None) -> None:
        """More of the content; `revision`: what it is of. EngineFull, EngineError."""
        after = self._revision if revision is None else revision
        code = self._committer.apply_now(Batch(0, self._revision, after, writes))
        if code:
            what = "its map is full" if code == MAP_FULL else describe(code)
            raise EngineFull(f"cannot fill the replica {self._path}: {what}; it needs the room of the whole store")
        self._revision = after

    def end(self) -> None:
        """No more is added."""
        os.close(self._event)
        del self._committer

    def discard(self) -> None:
        self.end()
        for path in (self._path, Path(f"{self._path}-lock")):
            path.unlink(missing_ok=True)
