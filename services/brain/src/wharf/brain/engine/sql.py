"""The SQL of the shared engine: its schema, version by version, and its statements. Pure.

Tables: `fence` (one row: who may write, and how far the authority is), `log`, `now`, `history` and `meta`, which are
the engine's four. Deletions in `now` and `meta` are rows without a value, so that one statement touches each table
once, which is what every dialect allows; compaction takes them away. No sequences, no advisory locks, no server-side
code: what is written here is meant for PostgreSQL and for what speaks its dialect.

`turn` in the fence counts the questions what became of a batch: a statement that is still on its way when its outcome
is asked for cannot land afterwards.
"""

# ruff: noqa: S608 - statements are made of this module's own words; what comes from outside is passed beside them

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from wharf.brain.engine.base import Batch, Table
from wharf.brain.store.keys import META_COMPACTED, parse_u64

S = "wharf_brain"
MAX_KEY = 511  # bytes of a key, as in the other engines
REVISION = 8  # bytes of a revision in a key

BOOTSTRAP = (
    f"CREATE SCHEMA IF NOT EXISTS {S}",
    f"CREATE TABLE IF NOT EXISTS {S}.version (id integer PRIMARY KEY, version integer NOT NULL)",
    f"INSERT INTO {S}.version (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"""CREATE TABLE {S}.fence (
            id integer PRIMARY KEY,
            epoch bigint NOT NULL,
            revision bigint NOT NULL,
            seq bigint NOT NULL,
            turn bigint NOT NULL,
            lease_ms bigint NOT NULL,
            earlier_ms bigint NOT NULL,
            promoted_seq bigint NOT NULL,
            meta_floor bigint NOT NULL
        )""",
        f"CREATE TABLE {S}.log (revision bigint PRIMARY KEY, epoch bigint NOT NULL, events bytea NOT NULL)",
        f"CREATE TABLE {S}.now (key bytea PRIMARY KEY, value bytea) WITH (fillfactor = 80)",
        f"CREATE TABLE {S}.history (ended bigint, key bytea, value bytea NOT NULL, PRIMARY KEY (ended, key))",
        f"CREATE TABLE {S}.meta (key bytea PRIMARY KEY, value bytea, seq bigint NOT NULL)",
        f"INSERT INTO {S}.fence VALUES (1, 0, 1, 0, 0, 0, 0, 0, 0)",
    ),
)
READ_VERSION = f"SELECT version FROM {S}.version WHERE id = 1"
LOCK_VERSION = f"SELECT version FROM {S}.version WHERE id = 1 FOR UPDATE"
WRITE_VERSION = f"UPDATE {S}.version SET version = $1 WHERE id = 1"
FIRST_META = f"INSERT INTO {S}.meta (key, value, seq) VALUES ($1, $2, 0) ON CONFLICT (key) DO NOTHING"

OWN_PID = "SELECT pg_backend_pid() AS pid"
OTHER_CLIENTS = """
    SELECT count(*) AS found FROM pg_stat_activity
    WHERE application_name = 'wharf-brain' AND datname = current_database() AND pid <> ALL ($1::int[])
"""
READ_FENCE = f"SELECT epoch, revision, seq, turn, meta_floor, promoted_seq FROM {S}.fence WHERE id = 1"
RAISE_EPOCH = f"""
    UPDATE {S}.fence SET
        epoch = $3,
        earlier_ms = CASE WHEN seq > promoted_seq OR lease_ms > earlier_ms THEN lease_ms ELSE earlier_ms END,
        lease_ms = $2,
        promoted_seq = seq
    WHERE id = 1 AND epoch = $1
    RETURNING epoch, earlier_ms
"""
"""Conditional on the epoch that was read, so that a promotion still on its way cannot overtake a later one. Whoever was
promoted and has written nothing may still have been waiting for the one before: the longer of both leases counts."""
TAKE_TURN = f"""
    UPDATE {S}.fence SET turn = turn + 1 WHERE id = 1
    RETURNING epoch, revision, seq, turn, meta_floor, promoted_seq
"""
"""Waits for a batch that still holds the row, and for its own replication, which covers every earlier commit. Whoever
holds the fence meanwhile reads the new turn and goes on."""
READ_LOG_EPOCH = f"SELECT epoch FROM {S}.log WHERE revision = $1"
PURGE_META = f"""
    WITH fence AS (
        UPDATE {S}.fence SET meta_floor = seq WHERE id = 1 AND epoch = $1 AND seq = $2 RETURNING seq
    )
    DELETE FROM {S}.meta WHERE value IS NULL AND seq <= $2 AND EXISTS (SELECT 1 FROM fence)
"""

READ_META = f"SELECT key, value, seq FROM {S}.meta WHERE seq > $1"
READ_LOG = f"SELECT revision, epoch, events FROM {S}.log WHERE revision >= $1 AND revision <= $2 ORDER BY revision"
READ_NOW = f"SELECT key, value FROM {S}.now WHERE value IS NOT NULL ORDER BY key"
READ_HISTORY = f"SELECT ended, key, value FROM {S}.history ORDER BY ended, key"


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a batch the authority is told. Of several writes to one key, the last."""

    log: dict[int, bytes] = field(default_factory=dict)
    now: dict[bytes, bytes | None] = field(default_factory=dict)
    history: dict[tuple[int, bytes], bytes] = field(default_factory=dict)  # (ended, key without it) → value
    meta: dict[bytes, bytes | None] = field(default_factory=dict)
    old_log: tuple[int, ...] = ()  # to delete
    old_history: tuple[tuple[int, bytes], ...] = ()  # to delete
    compacted: int = 0  # the deletions finish a compaction's work up to this revision, so a bound says it all

    @property
    def deletes(self) -> bool:
        return bool(self.old_log or self.old_history or self.compacted)


def plan(batch: Batch) -> Plan:
    """ValueError for a batch whose keys are not those of the store's layout, or that mixes compaction with changes."""
    log: dict[int, bytes | None] = {}
    now: dict[bytes, bytes | None] = {}
    history: dict[tuple[int, bytes], bytes | None] = {}
    meta: dict[bytes, bytes | None] = {}
    for table, key, value in batch.writes:
        if not 0 < len(key) <= MAX_KEY:
            raise ValueError(f"a key of {len(key)} bytes: 1 to {MAX_KEY} are allowed")
        if table == Table.NOW:
            now[key] = value
        elif table == Table.LOG:
            if len(key) != REVISION:
                raise ValueError("a key of the log is a revision")
            log[parse_u64(key)] = value
        elif table == Table.HISTORY:
            if len(key) <= REVISION:
                raise ValueError("a key of the history ends in a revision")
            history[parse_u64(key[-REVISION:]), key[:-REVISION]] = value
        elif table == Table.META:
            meta[key] = value
        else:
            raise ValueError(f"no table {table}")
    if not any(value is None for held in (log, history) for value in held.values()):
        return Plan(log, now, history, meta)  # type: ignore[arg-type]  # no value is None
    if any(value is not None for held in (log, history) for value in held.values()):
        raise ValueError("a batch either writes log and history or deletes from them")
    compacted = 0 if now or batch.revision != batch.expected_revision else parse_u64(meta.get(META_COMPACTED))
    return Plan({}, now, {}, meta, tuple(log), tuple(history), compacted)


def statement(
    batch: Batch, planned: Plan, seq: int, turn: int, gone: Sequence[bytes] = ()
) -> tuple[str, Sequence[object]]:
    """(text, arguments) of the one statement that lands a batch on sequence number `seq`; it returns a row if it did.

    `gone`: keys of `now` whose row, if it still is a deletion, goes with what a compaction deletes.
    """
    arguments: list[object] = [batch.epoch, batch.expected_revision, seq, turn, batch.revision]
    if planned.log:
        arguments += [list(planned.log), list(planned.log.values())]
    if planned.now:
        arguments += [list(planned.now), list(planned.now.values())]
    if planned.history:
        arguments += [*zip(*planned.history, strict=True), list(planned.history.values())]
    if planned.meta:
        arguments += [list(planned.meta), list(planned.meta.values())]
    if planned.compacted:
        arguments += [planned.compacted, max(planned.old_log, default=0), list(gone)]
    elif planned.deletes:
        ended, keys = zip(*planned.old_history, strict=True) if planned.old_history else ((), ())
        arguments += [ended, keys, planned.old_log]
    filled = (bool(planned.log), bool(planned.now), bool(planned.history), bool(planned.meta))
    return _text(filled, planned.deletes, planned.compacted > 0), arguments


@cache
def _text(filled: tuple[bool, bool, bool, bool], deletes: bool, compacts: bool) -> str:
    log, now, history, meta = filled
    parts = [
        f"""fence AS (
            UPDATE {S}.fence SET revision = $5::bigint, seq = seq + 1
            WHERE id = 1 AND epoch = $1::bigint AND revision = $2::bigint AND seq = $3::bigint AND turn = $4::bigint
            RETURNING seq
        )"""
    ]
    at = 6
    if log:
        parts.append(f"""log_rows AS (
            INSERT INTO {S}.log (revision, epoch, events)
            SELECT new.revision, $1::bigint, new.events
            FROM fence, unnest(${at}::bigint[], ${at + 1}::bytea[]) AS new (revision, events)
        )""")
        at += 2
    if now:
        parts.append(f"""now_rows AS (
            INSERT INTO {S}.now (key, value)
            SELECT new.key, new.value FROM fence, unnest(${at}::bytea[], ${at + 1}::bytea[]) AS new (key, value)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value
        )""")
        at += 2
    if history:
        parts.append(f"""history_rows AS (
            INSERT INTO {S}.history (ended, key, value)
            SELECT new.ended, new.key, new.value
            FROM fence, unnest(${at}::bigint[], ${at + 1}::bytea[], ${at + 2}::bytea[]) AS new (ended, key, value)
        )""")
        at += 3
    if meta:
        parts.append(f"""meta_rows AS (
            INSERT INTO {S}.meta (key, value, seq)
            SELECT new.key, new.value, fence.seq
            FROM fence, unnest(${at}::bytea[], ${at + 1}::bytea[]) AS new (key, value)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, seq = excluded.seq
        )""")
        at += 2
    landed = "EXISTS (SELECT 1 FROM fence)"
    if compacts:
        parts.append(f"old_history AS (DELETE FROM {S}.history WHERE ended <= ${at}::bigint AND {landed})")
        parts.append(f"old_log AS (DELETE FROM {S}.log WHERE revision <= ${at + 1}::bigint AND {landed})")
        parts.append(
            f"old_now AS (DELETE FROM {S}.now WHERE key = ANY(${at + 2}::bytea[]) AND value IS NULL AND {landed})"
        )
    elif deletes:
        parts.append(f"""old_history AS (
            DELETE FROM {S}.history WHERE (ended, key) IN (
                SELECT old.ended, old.key FROM fence, unnest(${at}::bigint[], ${at + 1}::bytea[]) AS old (ended, key)
            )
        )""")
        parts.append(f"old_log AS (DELETE FROM {S}.log WHERE revision = ANY(${at + 2}::bigint[]) AND {landed})")
    return f"WITH {', '.join(parts)} SELECT seq FROM fence"
