"""Engines on one PostgreSQL: opened, moved, and compared with what the database holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from brain.engine.conformance import outcomes, pairs, resolved
from brain.engine.histories import AT_THE_EDGE, Txn, Writer
from harness.faultproxy import FaultProxy
from harness.postgres import Postgres
from wharf.brain.engine.base import (
    META_EPOCH,
    META_FORMAT,
    META_REVISION,
    Batch,
    EngineError,
    Fenced,
    OutcomeLost,
    Promotion,
    Resolution,
    Table,
    epoch_number,
)
from wharf.brain.engine.delta import Delta, Position
from wharf.brain.engine.postgres import PostgresEngine

PATIENCE = 120.0
Tables = list[list[tuple[bytes, bytes]]]
MetaChanges = Sequence[tuple[bytes, bytes | None]]


def run(body: Awaitable[None]) -> None:
    """In a loop of its own, not for ever."""
    asyncio.run(asyncio.wait_for(body, PATIENCE))


@asynccontextmanager
async def engines(url: str, folder: Path, count: int = 1) -> AsyncIterator[list[PostgresEngine]]:
    """Nodes of one database, opened at the same time."""
    async with AsyncExitStack() as down:
        made = [PostgresEngine(url, folder) for _ in range(count)]
        for engine in made:
            down.push_async_callback(engine.aclose)
        await asyncio.gather(*(engine.open() for engine in made))
        yield made


class Leader:
    """An engine that leads, and the history it writes."""

    def __init__(self, engine: PostgresEngine, promotion: Promotion) -> None:
        self.engine, self.epoch = engine, promotion.epoch
        self.writer = Writer(engine.position().revision)
        self.deltas: list[Delta] = []
        self._chance = random.Random(epoch_number(promotion.epoch))
        engine.on_landed = self.deltas.append

    async def commit(self, txns: Sequence[Txn] = (), meta: MetaChanges = ()) -> None:
        """One batch, which must land."""
        (error,) = await outcomes(self.engine, [self.batch(txns, meta)])
        assert error is None, error

    def batch(self, txns: Sequence[Txn] = (), meta: MetaChanges = ()) -> Batch:
        base, writes = self.writer.batch(txns, meta)
        return Batch(self.epoch, base, self.writer.revision, writes)

    async def commit_some(self, batches: int) -> None:
        """A random history."""
        chance = self._chance
        keys = [b"%d" % number for number in range(12)] + AT_THE_EDGE
        for number in range(batches):
            txns = [
                [(chance.choice(keys), None if chance.random() < 0.3 else b"v%d" % number) for _ in range(3)]
                for _ in range(chance.randrange(4))
            ]
            lease = b"lease/%08d" % chance.randrange(9)
            await self.commit(txns, [(b"clock", b"%d" % number), (lease, None if chance.random() < 0.5 else b"l")])


async def leading(engine: PostgresEngine, lease_ms: int = 1000) -> Leader:
    return Leader(engine, await engine.promote(lease_ms))


async def applied(engine: PostgresEngine, delta: Delta) -> bool:
    """Whether it was taken; returns once it is shown."""
    outcome: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
    if not engine.apply(delta, outcome.set_result):
        return False
    assert await outcome is None
    return True


def tables(engine: PostgresEngine) -> Tables:
    """What the replica shows, without what it keeps for itself."""
    found = [pairs(engine, table) for table in Table]
    found[Table.META] = [pair for pair in found[Table.META] if pair[0] not in (META_EPOCH, META_FORMAT, META_REVISION)]
    return found


async def authority(url: str) -> tuple[Position, Tables]:
    """What the database holds, in the same form."""
    connection = await asyncpg.connect(url)
    try:
        fence = await connection.fetchrow("SELECT epoch, seq, revision FROM wharf_brain.fence")
        live = "WHERE value IS NOT NULL ORDER BY key"
        meta = await connection.fetch(f"SELECT key, value FROM wharf_brain.meta {live}")  # noqa: S608
        log = await connection.fetch("SELECT int8send(revision), events FROM wharf_brain.log ORDER BY revision")
        now = await connection.fetch(f"SELECT key, value FROM wharf_brain.now {live}")  # noqa: S608
        history = await connection.fetch("SELECT key || int8send(ended), value FROM wharf_brain.history ORDER BY 1")
        return Position(*fence), [[tuple(row) for row in rows] for rows in (meta, log, now, history)]
    finally:
        await connection.close()


async def sql(url: str, statement: str, *arguments: object) -> str:
    """One statement, behind the engines' backs."""
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.execute(statement, *arguments))
    finally:
        await connection.close()


async def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds; there is no event for what is looked at."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def fate(engine: PostgresEngine, batch: Batch) -> bool | Fenced | OutcomeLost:
    """Ask until it is known."""
    while True:
        found: Resolution = await resolved(engine, batch)
        if isinstance(found, bool | Fenced | OutcomeLost):
            return found
        await asyncio.sleep(0.02)


def through(proxy: FaultProxy, postgres: Postgres, name: str) -> tuple[str, str]:
    """(URL by way of a new link, direct URL) of a new database."""
    database = postgres.new_database()
    return postgres.url_at(proxy.add(name, postgres.port), database), postgres.url_of(database)


Cut = Callable[[FaultProxy, str], None]


def before_it_left(proxy: FaultProxy, link: str) -> None:
    proxy.pause(link, "up")


def before_it_came_back(proxy: FaultProxy, link: str) -> None:
    proxy.pause(link, "down")
