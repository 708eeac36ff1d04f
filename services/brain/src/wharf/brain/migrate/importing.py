"""A live store copied into a new one with its revisions: what was read there can be watched on here.

One revision R is copied page by page; then every transaction behind it is written as brain itself would have written
it (log, present, history), until the cut-over at revision N; leases come last, with what is left of them then. The
result is compared with the source at N before it may be served. History before R is not there: R is the compact
revision, so a watch that begins behind R goes on without a loss, and one that begins before is told to start over.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from wharf.brain.api.pb import mvcc
from wharf.brain.engine.base import FIRST_REVISION, Snapshot, Table, Write
from wharf.brain.migrate.following import Follower, Stop
from wharf.brain.migrate.progress import View
from wharf.brain.migrate.shapes import (
    CutOver,
    Ending,
    Fingerprint,
    MigrationFailed,
    SourceLease,
    Transaction,
    as_lease,
    orphans,
)
from wharf.brain.migrate.source import Source, stored
from wharf.brain.store._codec import Pending, event_frame, kv_numbers
from wharf.brain.store.filling import Filling
from wharf.brain.store.keys import META_CLOCK, META_COMPACTED, encode_u64, lease_key, log_key, skey
from wharf.brain.store.shapes import EventKind
from wharf.brain.store.ttl import encode_lease

_CHANGES_TOGETHER = 2000
_BYTES_TOGETHER = 8 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What a finished import has made."""

    revision: int
    keys: int
    leases: int
    source_revision: int  # where the source stood at the end; beyond `revision`: it was written to meanwhile


class Import:
    """One import; `stop` ends its following."""

    def __init__(self, source: Source, target: Filling, view: View, stop: Stop) -> None:
        self._source, self._target, self._view, self._stop = source, target, view, stop

    async def run(self, ending: Ending | None) -> Imported:
        """Copy, follow until `ending` (None: do not follow), compare. MigrationFailed, EngineError."""
        revision, _ = await self._source.stand()
        _check_until(ending, revision)
        applied = await self._target.begin()
        if applied == FIRST_REVISION:
            if revision > FIRST_REVISION:
                await self._copy(revision)
            applied = revision
        else:
            self._view.line(f"going on with an unfinished import at revision {applied}")
        if ending is not None:
            follower = Follower(self._source, CutOver(ending), self._stop, self._view)
            applied = await follower.run(applied, self._forward)
        return await self._complete(applied)

    async def _copy(self, revision: int) -> None:
        total, keys, size = await self._source.count(revision), 0, 0
        self._view.line(f"copying {total} keys at revision {revision}")
        last: list[bytes] = []  # what the transaction of this revision put
        async with aclosing(self._source.pages(revision)) as pages:
            async for page in pages:
                await self._target.rows([_row(kv) for kv in page])
                last += [event_frame(EventKind.PUT, stored(kv)) for kv in page if kv.mod_revision == revision]
                keys += len(page)
                size += sum(len(kv.key) + len(kv.value) for kv in page)
                self._view.copied("copying", keys, total, size)
        writes: list[Write] = [(Table.META, META_COMPACTED, encode_u64(revision))]
        if last:
            writes.append((Table.LOG, log_key(revision), b"".join(last)))
        await self._target.base(revision, writes)

    async def _forward(self, transactions: list[Transaction]) -> None:
        """Write transactions as one batch, or more when they are large."""
        at = 0
        while at < len(transactions):
            snapshot = self._target.engine.snapshot()
            try:
                pending, at = batch_of(snapshot, transactions, at)
            finally:
                snapshot.close()
            await self._target.forward(pending.revision, pending.writes)

    async def _complete(self, revision: int) -> Imported:
        """Compare with the source, add the leases, and let the store be served."""
        leases = await self._source.leases()
        self._view.line(f"comparing with the source at revision {revision}")
        theirs, referenced = await self._source.fingerprint(revision)
        snapshot = self._target.engine.snapshot()
        try:
            ours = fingerprint(snapshot)
        finally:
            snapshot.close()
        if ours != theirs:
            raise MigrationFailed(
                f"the copy differs from the source at revision {revision}: {ours} here, {theirs} there; begin anew"
            )
        self._view.line(f"the same on both sides: {ours}")
        known = [*leases, *orphans(referenced, leases)]
        source_revision, _ = await self._source.stand()
        await self._target.finish(lease_writes(known))
        return Imported(revision, ours.keys, len(known), source_revision)


def batch_of(snapshot: Snapshot, transactions: Sequence[Transaction], at: int) -> tuple[Pending, int]:
    """(a batch of the transactions from index `at` on, the index behind it), on top of what `snapshot` shows."""
    pending = Pending(snapshot.revision)
    begin = at
    while at < len(transactions) and (
        at == begin or (len(pending.writes) < _CHANGES_TOGETHER and pending.size < _BYTES_TOGETHER)
    ):
        before: dict[bytes, bytes | None] = {}
        changes = []
        for kind, key, kv in transactions[at].changes:
            if key not in before:
                before[key] = pending.now[key] if key in pending.now else snapshot.get(Table.NOW, skey(key))
            changes.append((kind, key, kv, before[key], not kind and _is_create(kv)))
        pending.record(changes)
        at += 1
    return pending, at


def fingerprint(snapshot: Snapshot) -> Fingerprint:
    """Of all live KeyValues of a store."""
    found = Fingerprint()
    for _, kv in snapshot.scan(Table.NOW, b"", None):
        found.add(kv)
    return found


def lease_writes(leases: Sequence[SourceLease], clock: int = 0) -> list[Write]:
    """META rows for leases that are to live on from `clock` milliseconds of served time."""
    writes: list[Write] = [(Table.META, META_CLOCK, encode_u64(clock))]
    for one in leases:
        writes.append((Table.META, lease_key(one.lease_id), encode_lease(as_lease(one, clock))))
    return writes


def _row(kv: mvcc.KeyValue) -> Write:
    return Table.NOW, skey(kv.key), stored(kv)


def _is_create(kv: bytes) -> bool:
    create_revision, mod_revision, _, _ = kv_numbers(kv)
    return create_revision == mod_revision


def _check_until(ending: Ending | None, revision: int) -> None:
    if ending is not None and ending.until and ending.until < revision:
        raise MigrationFailed(
            f"--until-revision {ending.until} is past: the source is at revision {revision}, and only what it holds now"
            " can be copied"
        )
