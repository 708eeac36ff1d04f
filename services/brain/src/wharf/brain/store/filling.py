"""Making a store out of what another one holds, batch by batch, in bounded memory; for tools.

The new store stays at its first revision while rows are put into it, then moves to the revision they stand for in one
batch. META `unfinished` is there from the first row until `finish`, so a half-made store is never served; filling it
once more begins anew, or goes on from its revision when the rows were complete (`base`).

Invariant: a store that somebody has written to is refused before anything is changed in it, its fence included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from wharf.brain.engine import open_engine
from wharf.brain.engine.base import (
    FIRST_REVISION,
    Batch,
    CommitUnknown,
    Engine,
    EngineError,
    Fenced,
    OutcomeLost,
    Resolution,
    SharedEngine,
    Snapshot,
    Table,
    Write,
)
from wharf.brain.store.keys import META_COMPACT, META_UNFINISHED, encode_u64

T = TypeVar("T")

PIECE_ROWS = 2000
PIECE_BYTES = 4 << 20
_LOOKS, _LOOK_SECONDS = 10, 0.3  # at connections of nodes to the target
RESOLVE_DELAY = 0.5  # seconds between questions to an engine that does not answer
_DATA = (Table.LOG, Table.NOW, Table.HISTORY)


class StoreInUse(EngineError):
    """The target is not a new store."""


class StoreUnfinished(EngineError):
    """The store is being made out of another one, or such an attempt was left; it must not be served."""


async def open_target(url: str) -> Engine:
    """The engine behind a URL, connected and loaded. StoreInUse if nodes run on it; EngineError."""
    engine = open_engine(url)
    if getattr(engine, "open", None) is not None:  # engines of several nodes live elsewhere and are connected to first
        shared = cast(SharedEngine, engine)
        try:
            await shared.open()
            await _refuse_live_nodes(shared)
        except BaseException:
            await close_target(engine)
            raise
    return engine


async def _refuse_live_nodes(engine: SharedEngine) -> None:
    """StoreInUse while others are connected. A process that has just ended may stay visible for a moment."""
    for _ in range(_LOOKS):
        others = await engine.other_clients()
        if not others:
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise StoreInUse(
        f"other brains have {others} connections to the target: stop every brain on it, or choose another database"
    )


async def close_target(engine: Engine) -> None:
    disconnect = getattr(engine, "aclose", None)
    if disconnect is None:
        engine.close()
    else:
        await disconnect()


class Filling:
    """One store being filled. `origin` says where from: only the same origin may go on with what is unfinished."""

    def __init__(self, engine: Engine, origin: int) -> None:
        self.engine = engine
        self.revision = FIRST_REVISION
        self._origin = encode_u64(origin)
        self._epoch = 0

    async def begin(self) -> int:
        """Take the engine over; the revision to go on from, `FIRST_REVISION` when nothing is there yet.

        StoreInUse when the store holds something else.
        """
        snapshot = self.engine.snapshot()
        try:
            unfinished = snapshot.get(Table.META, META_UNFINISHED)
            self.revision = snapshot.revision
            if unfinished is None and (self.revision != FIRST_REVISION or not _is_empty(snapshot)):
                raise StoreInUse(f"the target holds data (revision {self.revision}); choose a new, empty store")
            if unfinished not in (None, self._origin) and self.revision != FIRST_REVISION:
                raise StoreInUse("the target holds an unfinished import of another source; choose a new, empty store")
        finally:
            snapshot.close()
        self._epoch = (await self.engine.promote()).epoch
        if self.revision == FIRST_REVISION:
            await self._clear()
            await self._land([(Table.META, META_UNFINISHED, self._origin)])
        return self.revision

    async def rows(self, writes: Iterable[Write]) -> None:
        """Rows of the state that `base` will name."""
        for piece in pieces(writes):
            await self._land(piece)

    async def base(self, revision: int, writes: Sequence[Write] = ()) -> None:
        """The rows are those of `revision`; history before it is not there."""
        await self._land([*writes, (Table.META, META_COMPACT, encode_u64(revision))], revision)

    async def forward(self, revision: int, writes: Sequence[Write]) -> None:
        """One or more transactions more, up to `revision`."""
        await self._land(writes, revision)

    async def finish(self, writes: Sequence[Write] = (), revision: int | None = None) -> None:
        """The store is whole and may be served."""
        await self._land([*writes, (Table.META, META_UNFINISHED, None)], revision)

    async def _clear(self) -> None:
        """Take out what an earlier attempt left."""
        for table in _DATA:
            while True:
                snapshot = self.engine.snapshot()
                try:
                    found = [key for key, _ in snapshot.scan(table, b"", None, PIECE_ROWS)]
                finally:
                    snapshot.close()
                if not found:
                    break
                await self._land([(table, key, None) for key in found])

    async def _land(self, writes: Sequence[Write], revision: int | None = None) -> None:
        batch = Batch(self._epoch, self.revision, self.revision if revision is None else revision, writes)
        while True:
            error = await self._submitted(batch)
            if error is None or (isinstance(error, CommitUnknown) and await self._resolved(batch)):
                self.revision = batch.revision
                return
            if isinstance(error, Fenced):
                raise Fenced("somebody else writes to the target; stop every brain on it and begin with an empty one")
            if not isinstance(error, CommitUnknown):
                raise error

    async def _submitted(self, batch: Batch) -> EngineError | None:
        outcome: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
        self.engine.submit(batch, lambda error: _settle(outcome, error))
        return await outcome

    async def _resolved(self, batch: Batch) -> bool:
        """Whether the batch landed; False: it may be submitted again."""
        while True:
            outcome: asyncio.Future[Resolution] = asyncio.get_running_loop().create_future()
            self.engine.resolve(batch, lambda found, waits=outcome: _settle(waits, found))  # type: ignore[misc]
            found = await outcome
            if isinstance(found, Fenced | OutcomeLost):
                raise found
            if isinstance(found, bool):
                return found
            await asyncio.sleep(RESOLVE_DELAY)


def pieces(writes: Iterable[Write]) -> Iterable[list[Write]]:
    """Writes in batches of bounded size, in order."""
    piece: list[Write] = []
    size = 0
    for write in writes:
        piece.append(write)
        size += len(write[1]) + len(write[2] or b"")
        if len(piece) >= PIECE_ROWS or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def refuse_unfinished(snapshot: Snapshot) -> None:
    """StoreUnfinished for a store that is still being made, or was left so."""
    if snapshot.get(Table.META, META_UNFINISHED) is not None:
        raise StoreUnfinished(
            "this store is an unfinished import or restore: give the same command again until it has ended well, or "
            "remove the store"
        )


def check_finished(engine: Engine) -> None:
    """StoreUnfinished once an import or a restore has taken a running node's engine over."""
    snapshot = engine.snapshot()
    try:
        refuse_unfinished(snapshot)
    finally:
        snapshot.close()


def _is_empty(snapshot: Snapshot) -> bool:
    return all(next(iter(snapshot.scan(table, b"", None, 1)), None) is None for table in _DATA)


def _settle(waiting: asyncio.Future[T], outcome: T) -> None:
    if not waiting.done():  # whoever waited may have been cancelled
        waiting.set_result(outcome)
