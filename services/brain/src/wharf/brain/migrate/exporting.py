"""A live store copied into a running etcd: keys, values and leases. Revisions cannot be carried over through etcd's
API, so whoever watches starts over there.

Keys are copied and followed without their leases, which would run out at the target while nobody keeps them alive
there; leases are granted and attached at the very end, after keys and values have been compared. Each begins a life
of its full length, so none ends early.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from wharf.brain.api.pb import rpc
from wharf.brain.migrate.client import Client, LeaseThere
from wharf.brain.migrate.following import Follower, Stop
from wharf.brain.migrate.progress import View
from wharf.brain.migrate.shapes import CutOver, Ending, Fingerprint, MigrationFailed, Transaction, orphans
from wharf.brain.migrate.source import Source
from wharf.brain.store._codec import encode_kv, parse_kv
from wharf.brain.store.ttl import MIN_TTL

OPS_TOGETHER: Final = 100  # etcd takes 128 operations in a transaction by default
BYTES_TOGETHER: Final = 1 << 20  # and requests of 1.5 MiB


@dataclass(frozen=True, slots=True)
class Exported:
    """What a finished export has made."""

    revision: int  # of the source
    keys: int
    leases: int
    source_revision: int  # where the source stood at the end


class Target:
    """Writes to a running etcd, gathered into bounded transactions; a key is in one once, with its last value."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ops: dict[bytes, rpc.RequestOp] = {}
        self._size = 0

    async def put(self, key: bytes, value: bytes) -> None:
        put = rpc.PutRequest(key=key, value=value)
        await self._add(key, rpc.RequestOp(request_put=put), len(key) + len(value))

    async def attach(self, key: bytes, lease_id: int) -> None:
        """Attach an existing key to a lease."""
        put = rpc.PutRequest(key=key, lease=lease_id, ignore_value=True)
        await self._add(key, rpc.RequestOp(request_put=put), len(key))

    async def delete(self, key: bytes) -> None:
        delete = rpc.DeleteRangeRequest(key=key)
        await self._add(key, rpc.RequestOp(request_delete_range=delete), len(key))

    async def flush(self) -> None:
        """Write what is gathered; it is durable then."""
        if self._ops:
            request = rpc.TxnRequest(success=list(self._ops.values()))
            await self._client.call("/etcdserverpb.KV/Txn", request, rpc.TxnResponse)
            self._ops, self._size = {}, 0

    async def clear(self, start: bytes, end: bytes) -> None:
        request = rpc.DeleteRangeRequest(key=start, range_end=end)
        await self._client.call("/etcdserverpb.KV/DeleteRange", request, rpc.DeleteRangeResponse)

    async def grant(self, lease_id: int, seconds: int) -> None:
        """A lease with that id; one that is there from an earlier attempt is as good."""
        request = rpc.LeaseGrantRequest(ID=lease_id, TTL=seconds)
        try:
            await self._client.call("/etcdserverpb.Lease/LeaseGrant", request, rpc.LeaseGrantResponse)
        except LeaseThere:
            return

    async def _add(self, key: bytes, op: rpc.RequestOp, size: int) -> None:
        if self._ops and (len(self._ops) >= OPS_TOGETHER or self._size + size > BYTES_TOGETHER):
            await self.flush()
        self._ops[key] = op
        self._size += size


class Export:
    """One export of the keys under `prefix`; `stop` ends its following."""

    def __init__(self, source: Client, target: Client, prefix: bytes, view: View, stop: Stop) -> None:
        self._prefix = prefix
        self._source, self._there = Source(source, prefix), Source(target, prefix)
        self._target = Target(target)
        self._view, self._stop = view, stop

    async def run(self, ending: Ending | None, force: bool) -> Exported:
        """Copy, follow until `ending` (None: do not follow), compare, attach leases. MigrationFailed.

        `force`: delete first what the target holds under the prefix.
        """
        revision, _ = await self._source.stand()
        if ending is not None and ending.until and ending.until < revision:
            raise MigrationFailed(f"--until-revision {ending.until} is past: the source is at revision {revision}")
        await self._make_room(force)
        await self._copy(revision)
        if ending is not None:
            revision = await Follower(self._source, CutOver(ending), self._stop, self._view).run(revision, self._sink)
        leased, keys = await self._compare(revision)
        leases = await self._attach(leased)
        source_revision, _ = await self._source.stand()
        return Exported(revision, keys, leases, source_revision)

    async def _make_room(self, force: bool) -> None:
        there, _ = await self._there.stand()
        held = await self._there.count(there)
        if held and not force:
            where = f"under {self._prefix!r}" if self._prefix else "already"
            raise MigrationFailed(
                f"the target holds keys {where} ({held}); choose an empty one, or --force to delete them first"
            )
        if held:
            self._view.line(f"deleting {held} keys at the target")
            await self._target.clear(*self._there.bounds)

    async def _copy(self, revision: int) -> None:
        total, keys, size = await self._source.count(revision), 0, 0
        self._view.line(f"copying {total} keys at revision {revision}")
        async with aclosing(self._source.pages(revision)) as pages:
            async for page in pages:
                for kv in page:
                    await self._target.put(kv.key, kv.value)
                keys += len(page)
                size += sum(len(kv.key) + len(kv.value) for kv in page)
                self._view.copied("copying", keys, total, size)
        await self._target.flush()

    async def _sink(self, transactions: list[Transaction]) -> None:
        for transaction in transactions:
            for kind, key, kv in transaction.changes:
                if not key.startswith(self._prefix):
                    continue
                if kind:
                    await self._target.delete(key)
                else:
                    await self._target.put(key, parse_kv(kv)[4])
        await self._target.flush()

    async def _compare(self, revision: int) -> tuple[Mapping[bytes, int], int]:
        """(lease of each key that has one, number of keys), if both sides hold the same."""
        self._view.line(f"comparing keys and values with the source at revision {revision}")
        theirs, leased = await content(self._source, revision)
        there, _ = await self._there.stand()
        ours, _ = await content(self._there, there)
        if ours != theirs:
            raise MigrationFailed(f"the copy differs from the source: {ours} there, {theirs} at the source; begin anew")
        self._view.line(f"the same on both sides: {ours}")
        return leased, ours.keys

    async def _attach(self, leased: Mapping[bytes, int]) -> int:
        """Grant the leases and attach the keys; how many leases."""
        known = await self._source.leases()
        wanted = set(leased.values())
        if self._prefix:
            known = [lease for lease in known if lease.lease_id in wanted]
        known += orphans(wanted, known)
        for lease in known:
            await self._target.grant(lease.lease_id, max(lease.granted, MIN_TTL))
        for key, lease_id in leased.items():
            await self._target.attach(key, lease_id)
        await self._target.flush()
        return len(known)


async def content(source: Source, revision: int) -> tuple[Fingerprint, dict[bytes, int]]:
    """(fingerprint of keys and values at `revision`, lease of each key that has one)."""
    found, leased = Fingerprint(), dict[bytes, int]()
    async with aclosing(source.pages(revision)) as pages:
        async for page in pages:
            for kv in page:
                found.add(encode_kv(kv.key, 0, 0, 0, kv.value, 0))
                if kv.lease:
                    leased[kv.key] = kv.lease
    return found, leased
