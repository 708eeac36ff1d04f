"""Reading the authority: where it stands, and all it holds, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from wharf.brain.engine.base import EngineCorrupt, Table, Write
from wharf.brain.engine.delta import Position
from wharf.brain.engine.pg_link import Connection, Link, Rows, one_state
from wharf.brain.engine.replica import Loading
from wharf.brain.engine.sql import READ_FENCE, READ_HISTORY, READ_LOG, READ_META, READ_NOW
from wharf.brain.store.keys import META_COMPACTED, log_key, parse_u64

READ_SECONDS = 5.0  # for one answer
SORT_SECONDS = 300.0  # for the first rows of a table that may have to be sorted
PIECE_BYTES = 4 << 20
FIRST_ROWS, MOST_ROWS = 256, 20_000
EVERYTHING = -1  # below every sequence number


class Fence(NamedTuple):
    """Who may write, and how far the authority is."""

    epoch: int
    revision: int
    seq: int
    turn: int  # questions after the fate of a batch, so far
    meta_floor: int  # deletions in META up to this sequence number are no longer told
    promoted_seq: int  # sequence number at which the writer was promoted

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.seq, self.revision)

    def is_behind(self, position: Position) -> bool:
        """Whether whoever was at `position` has seen what is not there."""
        return self.epoch < position.epoch or self.seq < position.seq or self.revision < position.revision


class Loaded(NamedTuple):
    fence: Fence
    log_epoch: int | None  # of the newest log record, if there is one
    compacted: int
    meta_gone: int  # deletions in META that are still told


def parse_fence(row: Rows | None) -> Fence:
    """EngineCorrupt when the one row is missing."""
    if row is None:
        raise EngineCorrupt("the fence has no row: these are not tables of brain, or somebody has changed them")
    names = ("epoch", "revision", "seq", "turn", "meta_floor", "promoted_seq")
    return Fence(*(row[name] for name in names))


async def read_fence(connection: Connection) -> Fence:
    return parse_fence(await connection.fetchrow(READ_FENCE))


async def pieces(
    link: Link, connection: Connection, seconds: float, query: str, *arguments: object
) -> AsyncIterator[Sequence[Rows]]:
    """Rows in pieces of about `PIECE_BYTES`, the first after at most `seconds`; inside a transaction.

    The last column is the long one. What is done between two pieces is not counted against the server.
    """
    link.more_time(seconds)
    cursor = await connection.cursor(query, *arguments)
    wanted = FIRST_ROWS
    while rows := await cursor.fetch(wanted):
        link.more_time(SORT_SECONDS)
        yield rows
        if len(rows) < wanted:
            break
        size = sum(len(row[-1]) for row in rows) + 100 * len(rows)
        wanted = max(1, min(MOST_ROWS, wanted * PIECE_BYTES // size))
        link.more_time(READ_SECONDS)
    link.more_time(READ_SECONDS)


async def load(link: Link, connection: Connection, loading: Loading) -> Loaded:
    """Everything, as one committed state."""
    log_epoch: int | None = None
    async with one_state(connection):
        fence = await read_fence(connection)
        meta = {row["key"]: row["value"] for row in await connection.fetch(READ_META, EVERYTHING)}
        await _add(loading, [(Table.META, key, value) for key, value in meta.items() if value is not None])
        async for rows in pieces(link, connection, SORT_SECONDS, READ_LOG, 0, fence.revision):
            await _add(loading, [(Table.LOG, log_key(row["revision"]), row["events"]) for row in rows])
            log_epoch = rows[-1]["epoch"]
        async for rows in pieces(link, connection, SORT_SECONDS, READ_NOW):
            await _add(loading, [(Table.NOW, row["key"], row["value"]) for row in rows])
        async for rows in pieces(link, connection, SORT_SECONDS, READ_HISTORY):
            await _add(loading, [(Table.HISTORY, row["key"] + log_key(row["ended"]), row["value"]) for row in rows])
    await asyncio.to_thread(loading.add, (), fence.revision)
    gone = sum(value is None for value in meta.values())
    return Loaded(fence, log_epoch, parse_u64(meta.get(META_COMPACTED)), gone)


async def _add(loading: Loading, writes: Sequence[Write]) -> None:
    await asyncio.to_thread(loading.add, writes)
