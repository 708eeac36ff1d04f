"""The LMDB engine: one file, one writing thread, readers that never wait.

A store is a directory holding `store-<n>.mdb` (n grows by defragmenting), LMDB's `-lock` beside it and `LOCK`, which
keeps a second process out. Batches are written by the commit thread (`_commit.Committer`) and reported through an
eventfd on the loop.

The map is reserved far beyond the disk (address space only), so it practically never fills; where a limit on address
space forbids that, a full map is doubled in between two batches, while every open snapshot still shows the newest
state and can be moved unseen.

Invariant: whatever fails, the committed state stays readable, and the caller learns whether the batch committed. One
failure is an exception: after an I/O error while the meta page is written, LMDB refuses every use of the open file.
The engine then reports `EngineFailed`, and the outcome of that batch shows when the store is opened again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import ref

from wharf.brain.engine import lmdb_dir
from wharf.brain.engine._commit import FENCED, UNKNOWN, Committer
from wharf.brain.engine._lmdb import CORRUPT, MAP_FULL, PANIC, LmdbError, ReadTxn, describe, grow_map
from wharf.brain.engine.base import (
    Batch,
    CommitUnknown,
    EngineCorrupt,
    EngineError,
    EngineFailed,
    EngineFull,
    Fenced,
    Promotion,
    Resolution,
    resolved,
)

log = logging.getLogger(__name__)

FULL_CODES = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT, MAP_FULL})
GROW_PATIENCE = 10.0  # seconds a full map waits for old snapshots before the batch is given up
GROW_RETRY = 0.02  # seconds between looks at them
RELAX_EVERY = 10.0  # seconds between looks at how much of the file is mapped in
RELAX_ABOVE = 256 << 20  # bytes; the map counts as this process's memory though the system may take it back


class LmdbSnapshot(ReadTxn):
    """One committed state: a read transaction of LMDB."""

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        left = limit
        while True:
            pairs, exhausted = self.chunk(table, start, end, reverse, left)
            yield from pairs
            if exhausted or (limit and left <= len(pairs)):
                return
            left -= len(pairs) if limit else 0
            if reverse:
                end = pairs[-1][0]
            else:
                start = pairs[-1][0] + b"\0"


class LmdbEngine:
    """The contract of `base.Engine` on one directory. `map_size`: bytes to reserve, instead of what fits this
    machine.
    """

    def __init__(
        self, directory: str | Path, *, unsafe_no_fsync: bool = False, map_size: int | None = None, create: bool = True
    ) -> None:
        self._dir = Path(directory)
        self._sync = not unsafe_no_fsync
        self._lock = lmdb_dir.lock(self._dir, create)
        try:
            self._map_size = map_size or lmdb_dir.roomy_map(self._dir)
            self._env = lmdb_dir.open_newest(self._dir, self._map_size, self._sync, create)
        except BaseException:
            os.close(self._lock)
            raise
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._committer = Committer(self._env, self._event)
        self._thread = threading.Thread(target=self._committer.run, name="brain-commit", daemon=True)
        self._thread.start()
        self._waiting: deque[tuple[Batch, Callable[[EngineError | None], None]]] = deque()
        self._snapshots: set[ref[LmdbSnapshot]] = set()  # open ones, and some closed
        self._copies = 0  # reads of the map that no snapshot stands for
        self._copying = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stalled_since: float | None = None
        self._relax_at = 0.0
        self._failure: EngineFailed | None = None  # why the open file takes no more batches
        self._closed = False

    def snapshot(self) -> LmdbSnapshot:
        self._check_open()
        try:
            taken = LmdbSnapshot(self._env)
        except LmdbError as error:
            raise self._read_error(error) from error
        self._snapshots.add(ref(taken, self._snapshots.discard))
        return taken

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        self._check_open()
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._event, self._on_event)
        self._committer.submit(batch)
        self._waiting.append((batch, done))

    def commit(self, batch: Batch) -> None:
        self._check_open()
        if self._waiting:
            raise EngineError("commit() while submitted batches are under way")
        code = self._committer.apply_now(batch)
        while code == MAP_FULL and self._try_grow():
            code = self._committer.apply_now(batch)
        error = self._error(code, batch)
        if error is not None:
            raise error

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        done(resolved(self, batch))

    async def promote(self, lease_ms: int = 0) -> Promotion:
        self._check_open()
        try:
            return Promotion(self._env.raise_epoch())
        except LmdbError as error:
            raise self._error(error.code, None) or EngineError(str(error)) from error

    def size(self) -> int:
        _, pages, page_size = self._env.info()
        return pages * page_size

    def size_in_use(self) -> int:
        _, pages, page_size = self._env.info()
        try:
            free = self._env.free_pages()
        except LmdbError:
            free = 0  # a failed engine does not show its free list
        return max(0, pages - free) * page_size

    def relax(self) -> None:
        self._env.let_go()

    @property
    def lock(self) -> int:
        """The descriptor that keeps others out of the store; whoever inherits it does, as long as it lives."""
        return self._lock

    def forget_dead_readers(self) -> None:
        """A process that read the store is over: the pages it held may be used again."""
        try:
            self._env.forget_dead_readers()
        except LmdbError as error:
            raise EngineError(f"looking for dead readers of {self._env.path}: {error}") from error

    def defragment(self) -> None:
        self._check_open()
        self._committer.pause()
        env, refusal = self._env, 0
        try:
            with self._copy_under_way():
                env = lmdb_dir.rewrite(self._dir, self._env, self._map_size, self._sync)
        except EngineFailed as error:
            self._failure, refusal = error, PANIC
            raise
        except (LmdbError, OSError) as error:
            raise _copy_error(error, f"{self._env.path} stays as it is") from error
        finally:
            self._env = env
            self._committer.resume(env, refusal)

    def backup(self, path: str) -> None:
        self._check_open()
        try:
            with self._copy_under_way():
                lmdb_dir.copy(self._env, path)
        except (LmdbError, OSError) as error:
            raise _copy_error(error, f"no copy is left at {path}") from error

    def close(self) -> None:
        """Waits for batches under way and reports them; open snapshots end."""
        if self._closed:
            return
        self._committer.fail_stalled(MAP_FULL)
        self._committer.stop()
        self._thread.join()
        if self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._event)
            self._report()
        self._closed = True
        for held in list(self._snapshots):
            snapshot = held()
            if snapshot is not None:
                snapshot.close()
        os.close(self._event)
        del self._committer, self._env
        os.close(self._lock)

    def _on_event(self) -> None:
        try:
            os.read(self._event, 8)
        except BlockingIOError:
            return
        self._report()
        if self._loop is not None and self._loop.time() >= self._relax_at:
            self._relax_at = self._loop.time() + RELAX_EVERY
            if _mapped_bytes() > RELAX_ABOVE:
                self._env.let_go()

    def _report(self) -> None:
        codes, stalled = self._committer.finished()
        for code in codes:
            batch, done = self._waiting.popleft()
            try:
                done(self._error(code, batch))
            except Exception:
                log.exception("the outcome of a batch could not be dealt with")
        if stalled and self._stalled_since is None:
            self._relieve()

    def _relieve(self) -> None:
        """The commit thread waits for a larger map: give it one as soon as no snapshot is in the way."""
        if self._closed or self._loop is None:
            return
        now = self._loop.time()
        if self._try_grow():
            self._stalled_since = None
            self._committer.retry_stalled()
        elif self._stalled_since is not None and now - self._stalled_since > GROW_PATIENCE:
            self._stalled_since = None
            self._committer.fail_stalled(MAP_FULL)
        else:
            self._stalled_since = self._stalled_since or now
            self._loop.call_later(GROW_RETRY, self._relieve)

    def _try_grow(self) -> bool:
        """Double the map; False while a copy is made, or a snapshot of an older state or in use elsewhere is open."""
        with self._copying:
            if self._copies:
                return False
            held: list[ReadTxn] = [snapshot for ref in list(self._snapshots) if (snapshot := ref()) is not None]
            if not grow_map(self._env, held, self._env.info()[0] * 2):
                return False
            self._map_size = self._env.info()[0]
            return True

    @contextmanager
    def _copy_under_way(self) -> Iterator[None]:
        with self._copying:
            self._copies += 1
        try:
            yield
        finally:
            with self._copying:
                self._copies -= 1

    def _error(self, code: int, batch: Batch | None) -> EngineError | None:
        if code == 0:
            return None
        if code == FENCED:
            expected = f"epoch {batch.epoch} and revision {batch.expected_revision}" if batch else "another state"
            return Fenced(f"the batch expects {expected}; the store holds another")
        if code <= UNKNOWN:
            self._failure = EngineFailed(
                f"{self._env.path} cannot be used any more, because its meta page could not be written "
                f"({describe(UNKNOWN - code)}); check the disk and start again"
            )
            return CommitUnknown(f"the batch may have committed: {self._failure}")
        if code == PANIC and self._failure is not None:
            return self._failure
        if code in FULL_CODES:
            what = "the address space reserved for the store is full" if code == MAP_FULL else describe(code)
            return EngineFull(
                f"{what}: nothing was written to {self._env.path}; free disk space, compact and defragment"
            )
        if code in CORRUPT:
            return EngineCorrupt(lmdb_dir.damaged(self._env.path, describe(code)))
        return EngineFailed(f"{self._env.path} cannot be written ({describe(code)}); check the disk and start again")

    def _read_error(self, error: LmdbError) -> EngineError:
        if error.code == PANIC:
            return self._failure or EngineFailed(f"{self._env.path} cannot be read: {error}")
        return EngineError(f"{self._env.path} cannot be read: {error}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("engine is closed")


def _copy_error(error: LmdbError | OSError, left: str) -> EngineError:
    """What a failed copy of the store raises; `left` says what is there afterwards."""
    code = error.code if isinstance(error, LmdbError) else error.errno
    return (EngineFull if code in FULL_CODES else EngineError)(f"{error}; {left}")


def _mapped_bytes() -> int:
    """Memory of this process that is a file's."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
