"""What a migration reads from: one consistent revision in pages, then every transaction after it, and the leases.

Pages are pinned at one revision and come one ahead of whoever takes them; nothing else is held. A watch that breaks is
taken up again behind the last transaction that was handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import grpc.aio
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.migrate.client import RETRY_DELAY, Client, Compacted, OnTrouble, Stream
from wharf.brain.migrate.shapes import (
    FIRST_PAGE,
    Assembler,
    Change,
    Fingerprint,
    Gap,
    MigrationFailed,
    SourceLease,
    Transaction,
    next_limit,
)
from wharf.brain.store._codec import encode_kv
from wharf.brain.store.keys import prefix_end

ALL = b"\0"
LEASES_AT_ONCE = 64
Told = tuple[list[Transaction], int]
"""(transactions in order, the source's revision as told with them)."""

GONE = -1  # time to live of a lease that is not there

COMPACTED_ADVICE = (
    "the source has compacted away history that the copy still needed; kube-apiserver compacts every five minutes: set "
    "its --etcd-compaction-interval=0 meanwhile (for other clients etcd's auto-compaction), then begin anew"
)


class Source:
    """A running etcd or brain, read only."""

    def __init__(self, client: Client, prefix: bytes = b"") -> None:
        self.client = client
        self.bounds = (prefix, prefix_end(prefix)) if prefix else (ALL, ALL)

    async def stand(self, patience: float | None = None) -> tuple[int, int]:
        """(newest revision, cluster id), linearizable. `patience`: seconds to wait for an answer."""
        request = rpc.RangeRequest(key=ALL)
        answer = await self.client.call("/etcdserverpb.KV/Range", request, rpc.RangeResponse, patience=patience)
        return answer.header.revision, answer.header.cluster_id

    async def count(self, revision: int) -> int:
        """Live keys at `revision`."""
        start, end = self.bounds
        request = rpc.RangeRequest(key=start, range_end=end, revision=revision, count_only=True)
        return (await self._range(request)).count

    async def pages(self, revision: int) -> AsyncGenerator[Sequence[mvcc.KeyValue], None]:
        """The live keys at `revision`, in order."""
        start, end = self.bounds
        request = rpc.RangeRequest(key=start, range_end=end, revision=revision, limit=FIRST_PAGE)
        ahead = asyncio.create_task(self._range(request))
        try:
            while True:
                page = await ahead
                if page.more:
                    limit = next_limit(request.limit, len(page.kvs), page.ByteSize())
                    request = rpc.RangeRequest(
                        key=page.kvs[-1].key + b"\0", range_end=end, revision=revision, limit=limit
                    )
                    ahead = asyncio.create_task(self._range(request))
                if page.kvs:
                    yield page.kvs
                if not page.more:
                    return
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def fingerprint(self, revision: int) -> tuple[Fingerprint, set[int]]:
        """(fingerprint of all live KeyValues at `revision`, leases they name)."""
        found, leases = Fingerprint(), {0}
        async with aclosing(self.pages(revision)) as pages:
            async for page in pages:
                for kv in page:
                    found.add(stored(kv))
                    leases.add(kv.lease)
        return found, leases - {0}

    async def leases(self) -> list[SourceLease]:
        """All leases with what is left of them."""
        listed = await self.client.call(
            "/etcdserverpb.Lease/LeaseLeases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse
        )
        ids = [one.ID for one in listed.leases]
        found: list[SourceLease] = []
        for at in range(0, len(ids), LEASES_AT_ONCE):
            asked = (self._time_to_live(lease_id) for lease_id in ids[at : at + LEASES_AT_ONCE])
            found += [
                SourceLease(one.ID, one.grantedTTL, one.TTL) for one in await asyncio.gather(*asked) if one.TTL != GONE
            ]
        return found

    async def transactions(self, after: int, trouble: OnTrouble) -> AsyncGenerator[Told, None]:
        """What happens after revision `after`, for ever.

        `trouble` is told when the source is lost and when it is back.
        """
        last, lost = after, False
        while True:
            turn = self.client.turn
            try:
                async with aclosing(self._watch(last)) as watch:
                    async for found, revision in watch:
                        if lost:
                            lost = False
                            trouble("the source is back")
                        if found:
                            last = found[-1].revision
                        yield found, revision
                text = "the source has ended the watch"
            except grpc.aio.AioRpcError as error:
                if not self.client.may_retry(error):
                    raise self.client.failure(error) from error
                text = error.details() or error.code().name
            if not lost:
                lost = True
                trouble(f"lost the source, trying again: {text}")
            self.client.rotate(turn)
            await asyncio.sleep(RETRY_DELAY)

    async def _watch(self, last: int) -> AsyncGenerator[Told, None]:
        """One watch, until it breaks."""
        assembler = Assembler(last)
        method = (await self.client.channel()).stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )
        call: Stream = method(metadata=self.client.metadata())
        try:
            create = rpc.WatchCreateRequest(
                key=ALL, range_end=ALL, start_revision=last + 1, fragment=True, progress_notify=True
            )
            await call.write(rpc.WatchRequest(create_request=create))
            while True:
                response = await call.read()
                if not isinstance(response, rpc.WatchResponse):
                    return  # the end
                if response.canceled:
                    raise _cancelled(response)
                try:
                    found = assembler.feed(_changes(response.events), response.fragment)
                except Gap as gap:
                    raise Compacted(f"{self.client.access}: {gap}: {COMPACTED_ADVICE}") from gap
                yield found, response.header.revision
        finally:
            call.cancel()

    async def _range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        try:
            return await self.client.call("/etcdserverpb.KV/Range", request, rpc.RangeResponse)
        except Compacted as error:
            raise Compacted(f"{error}: {COMPACTED_ADVICE}") from error

    async def _time_to_live(self, lease_id: int) -> rpc.LeaseTimeToLiveResponse:
        return await self.client.call(
            "/etcdserverpb.Lease/LeaseTimeToLive",
            rpc.LeaseTimeToLiveRequest(ID=lease_id),
            rpc.LeaseTimeToLiveResponse,
        )


def stored(kv: mvcc.KeyValue) -> bytes:
    """The canonical bytes of a KeyValue, as they are kept."""
    return encode_kv(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)


def _changes(events: Sequence[mvcc.Event]) -> list[tuple[int, Change]]:
    return [(event.kv.mod_revision, Change(event.type, event.kv.key, stored(event.kv))) for event in events]


def _cancelled(response: rpc.WatchResponse) -> MigrationFailed:
    if response.compact_revision:
        return Compacted(f"revision {response.compact_revision} is the oldest the source has: {COMPACTED_ADVICE}")
    return MigrationFailed(f"the source refuses to be watched: {response.cancel_reason or 'it gives no reason'}")
