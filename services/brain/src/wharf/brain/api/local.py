"""The store as a client would see it, for services that are written on top of the API (locks, elections).

Writes are awaited, watches are iterated. Nothing here waits on the network: whoever awaits, awaits the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from wharf.brain.api.node import Node
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.errors import BrainError
from wharf.brain.store.shapes import (
    Answer,
    Committed,
    DeleteOp,
    PutOp,
    RangeAnswer,
    RangeOp,
    SortOrder,
    SortTarget,
    TxnOp,
)
from wharf.brain.store.ttl import Granted
from wharf.brain.watch.watcher import WatchSpec


class LocalClient:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._hub = node.hub

    @property
    def revision(self) -> int:
        return self._store.revision

    async def submit(self, op: TxnOp | PutOp | DeleteOp) -> Committed:
        """The write's outcome, once durable; raises what the store answers otherwise."""
        outcome: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()

        def done(answer: Committed | BrainError) -> None:
            if outcome.done():
                return
            if isinstance(answer, BrainError):
                outcome.set_exception(answer)
            else:
                outcome.set_result(answer)

        self._store.submit(op, done)
        return await outcome

    async def grant(self, ttl: int) -> int:
        """The id of a new lease."""
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(answer: Granted | BrainError) -> None:
            if outcome.done():
                return
            if isinstance(answer, BrainError):
                outcome.set_exception(answer)
            else:
                outcome.set_result(answer.lease_id)

        self._store.leases.grant(0, ttl, done)
        return await outcome

    def delete_later(self, key: bytes) -> None:
        """Delete `key` without waiting: for cleaning up after a caller who has gone."""
        self._store.submit(DeleteOp(key), lambda _: None)

    def get(self, op: RangeOp) -> tuple[int, list[mvcc.KeyValue]]:
        """(revision, KeyValues) now."""
        answer = self._store.range(op)
        return answer.revision, key_values(answer)

    async def watch(self, key: bytes, range_end: bytes, start_revision: int) -> AsyncGenerator[rpc.WatchResponse, None]:
        """Responses from `start_revision` on, until the watch is cancelled; closing the iterator ends it."""
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        stream = self._hub.open_stream(arrived.put_nowait, lambda: True)
        try:
            stream.create(WatchSpec(key=key, range_end=range_end, start_revision=start_revision))
            while True:
                response = rpc.WatchResponse.FromString(await arrived.get())
                if response.canceled:
                    return
                if response.events:
                    yield response
        finally:
            stream.close()


def key_values(answer: Answer) -> list[mvcc.KeyValue]:
    """The KeyValues of a range's answer as messages."""
    if not isinstance(answer, RangeAnswer):
        return []
    framed = answer.framed if answer.parts is None else b"".join(answer.parts)
    return list(rpc.RangeResponse.FromString(framed).kvs)


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with `prefix`; b"\\0" (no end) when there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b"\0"


def first_created(prefix: bytes) -> RangeOp:
    """The oldest key with `prefix`: the holder of a lock, the leader of an election."""
    return RangeOp(prefix, prefix_end(prefix), limit=1, sort_order=SortOrder.ASCEND, sort_target=SortTarget.CREATE)


def last_created_before(prefix: bytes, create_revision: int) -> RangeOp:
    """The youngest key with `prefix` that is older than `create_revision`: who to wait for."""
    return RangeOp(
        prefix,
        prefix_end(prefix),
        limit=1,
        sort_order=SortOrder.DESCEND,
        sort_target=SortTarget.CREATE,
        max_create_revision=create_revision - 1,
    )
