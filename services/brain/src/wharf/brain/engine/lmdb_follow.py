"""The LMDB engine of a process that only reads: one writes a store, any number follow.

LMDB lets processes share a file: each reader holds a slot in the `-lock` beside it, so that the writer leaves the pages
alone that are still looked at. What is committed is in the next snapshot at once, whether or not the writer has told
anybody of it; who may show it is decided above (`workers.follow`).

Invariant: a file is opened once per process, because closing a second opening would drop the locks of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from weakref import ref

from wharf.brain.engine import lmdb_dir
from wharf.brain.engine._lmdb import LmdbError
from wharf.brain.engine.base import Batch, EngineError, Promotion, Resolution
from wharf.brain.engine.lmdb import LmdbSnapshot


class LmdbFollower:
    """The contract of `base.Engine`, as far as it is about reading."""

    def __init__(self, directory: str | Path) -> None:
        """EngineError when there is no store that can be read."""
        self._dir = Path(directory)
        self._map_size = lmdb_dir.roomy_map(self._dir)
        self._env = lmdb_dir.open_following(self._dir, self._map_size)
        self.generation = lmdb_dir.generation_of(self._env.path)
        self._snapshots: set[ref[LmdbSnapshot]] = set()  # open ones, and some closed
        self._closed = False

    def snapshot(self) -> LmdbSnapshot:
        if self._closed:
            raise EngineError("engine is closed")
        try:
            taken = LmdbSnapshot(self._env)
        except LmdbError as error:
            raise EngineError(f"reading {self._env.path}: {error}") from error
        self._snapshots.add(ref(taken, self._snapshots.discard))
        return taken

    def reopen(self) -> None:
        """Go over to the newest file, if that is another one; snapshots stay where they are. EngineError."""
        try:
            newest = lmdb_dir.newest_file(self._dir)
            if newest is None or lmdb_dir.generation_of(newest) == self.generation:
                return
            self._env = lmdb_dir.open_following(self._dir, self._map_size)
        except OSError as error:
            raise EngineError(f"cannot read {self._dir}: {error}") from error
        self.generation = lmdb_dir.generation_of(self._env.path)

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        _refuse()

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        _refuse()

    async def promote(self, lease_ms: int = 0) -> Promotion:
        _refuse()

    def size(self) -> int:
        _, pages, page_size = self._env.info()
        return pages * page_size

    def size_in_use(self) -> int:
        _, pages, page_size = self._env.info()
        try:
            free = self._env.free_pages()
        except LmdbError:
            free = 0
        return max(0, pages - free) * page_size

    def relax(self) -> None:
        self._env.let_go()

    def defragment(self) -> None:
        _refuse()

    def backup(self, path: str) -> None:
        try:
            lmdb_dir.copy(self._env, path)
        except (LmdbError, OSError) as error:
            raise EngineError(f"copying {self._env.path}: {error}") from error

    def close(self) -> None:
        """Open snapshots end."""
        if self._closed:
            return
        self._closed = True
        for held in list(self._snapshots):
            snapshot = held()
            if snapshot is not None:
                snapshot.close()
        del self._env


def place(snapshot: LmdbSnapshot) -> tuple[int, int]:
    """(generation of the file, number of the transaction): which state this is. Later states of a store are greater."""
    return lmdb_dir.generation_of(snapshot.env.path), snapshot.number()


def _refuse() -> NoReturn:
    raise EngineError("this process only reads the store; another one writes it")
