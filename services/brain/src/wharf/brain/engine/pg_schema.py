"""Making and migrating the tables of the shared engine, by whichever node comes first.

Several nodes may start at once on an empty database: making what is already being made fails in as many ways as there
are dialects, so a failure is looked at again from the start, a few times. Migrations themselves run one after the other
behind the lock of the version's row.
"""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
from wharf.brain.engine.base import EngineError
from wharf.brain.engine.pg_link import Connection, Link, RolledBack
from wharf.brain.engine.sql import (
    BOOTSTRAP,
    FIRST_META,
    LOCK_VERSION,
    MIGRATIONS,
    READ_VERSION,
    WRITE_VERSION,
)
from wharf.brain.store.keys import META_CLUSTER, META_MEMBER, encode_u64

ATTEMPTS = 6
PATIENCE = 0.1  # seconds before looking again, times the attempt
SECONDS = 60.0  # for one attempt

CONCURRENT = frozenset(
    {"23505", "42710", "42P06", "42P07", "XX000"}
)  # somebody else has just made, or is making, the same thing


async def migrate(link: Link) -> None:
    """Bring the schema to the version known here; EngineError for one that is newer, or what else is wrong."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await link.call(_migrate, SECONDS)
        except (_Busy, RolledBack):
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PATIENCE * attempt)
    return None


class _Busy(EngineError):
    """Another node is making the same tables."""


async def _migrate(connection: Connection) -> None:
    try:
        if await _version(connection) == len(MIGRATIONS):
            return
        for step in BOOTSTRAP:
            await connection.execute(step)
        async with connection.transaction():
            row = await connection.fetchrow(LOCK_VERSION)
            held = 0 if row is None else int(row["version"])
            _refuse_newer(held)
            for steps in MIGRATIONS[held:]:
                for step in steps:
                    await connection.execute(step)
            if held == 0:
                for key in (META_CLUSTER, META_MEMBER):
                    await connection.execute(FIRST_META, key, encode_u64(secrets.randbits(63) | 1))
            await connection.execute(WRITE_VERSION, len(MIGRATIONS))
    except asyncpg.PostgresError as error:
        if error.sqlstate in CONCURRENT:
            raise _Busy(f"the tables are being made by another node: {error}") from error
        raise


async def _version(connection: Connection) -> int:
    try:
        row = await connection.fetchrow(READ_VERSION)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return 0
    held = 0 if row is None else int(row["version"])
    _refuse_newer(held)
    return held


def _refuse_newer(held: int) -> None:
    if held > len(MIGRATIONS):
        raise EngineError(
            f"the database holds schema version {held}, this version of brain knows {len(MIGRATIONS)}: "
            "use the version that made it, or a later one"
        )
