"""The API as a client of this node sees it, for services that are clients themselves (locks, elections).

A request goes the way of any client's: to the node that leads, or behind a read index, and through the permission
checks, in the name of the call that it is made for. So it works on every node, and through a change of leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol, TypeVar, cast

from wharf.brain.api.answered import AnsweredCall, Reply
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.errors import BrainError
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.wire.rpc import Call, Code, UnaryHandler

M = TypeVar("M", bound="_Message")
HandlerOf = Callable[[str], UnaryHandler]
"""What answers a unary method for clients of this node."""

CLEAN_UP_ATTEMPTS: Final = 10
_KV, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  protobuf's name

    @classmethod
    def FromString(cls: type[M], data: bytes, /) -> M: ...  # noqa: N802  as above


class Refused(BrainError):
    """An answer that is an error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.code, self.text = Code(reply.code), reply.text


class LocalClient:
    """For one call, whose metadata and peer say who calls."""

    def __init__(self, hub: Hub, handler_of: HandlerOf, call: Call) -> None:
        self._hub, self._handler_of, self._call = hub, handler_of, call

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        """Refused when it is; so for the others."""
        return await self._ask(_KV + "Txn", request, rpc.TxnResponse)

    async def delete(self, key: bytes) -> int:
        """The revision."""
        answer = await self._ask(_KV + "DeleteRange", rpc.DeleteRangeRequest(key=key), rpc.DeleteRangeResponse)
        return answer.header.revision

    async def grant(self, ttl: int) -> int:
        """The id of a new lease."""
        return (await self._ask(_LEASE + "LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl), rpc.LeaseGrantResponse)).ID

    async def get(self, request: rpc.RangeRequest) -> tuple[int, list[mvcc.KeyValue]]:
        """(revision, KeyValues) of a linearizable read."""
        answer = await self._ask(_KV + "Range", request, rpc.RangeResponse)
        return answer.header.revision, list(answer.kvs)

    def delete_later(self, key: bytes, create_revision: int) -> None:
        """Delete `key` as created then, without waiting: after the call has ended. Tried again while no node leads."""
        compare = rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=create_revision)
        delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        self._do_later(_KV + "Txn", rpc.TxnRequest(compare=[compare], success=[delete]), CLEAN_UP_ATTEMPTS)

    def revoke_later(self, lease_id: int) -> None:
        """Revoke a lease in the same way."""
        self._do_later(_LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id), CLEAN_UP_ATTEMPTS)

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

    async def _ask(self, path: str, request: _Message, kind: type[M]) -> M:
        outcome: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply) -> None:
            if not outcome.done():
                outcome.set_result(reply)

        inner = self._start(path, request, done)
        try:
            reply = await outcome
        except asyncio.CancelledError:
            inner.cancel()
            raise
        if reply.code:
            raise Refused(reply)
        return kind.FromString(reply.response)

    def _do_later(self, path: str, request: _Message, attempts: int) -> None:
        def done(reply: Reply) -> None:
            if reply.code == Code.UNAVAILABLE and attempts > 1:
                loop.call_later(1.0, lambda: self._do_later(path, request, attempts - 1))

        loop = asyncio.get_running_loop()
        self._start(path, request, done)

    def _start(self, path: str, request: _Message, done: Callable[[Reply], None]) -> AnsweredCall:
        inner = AnsweredCall(path, done, self._call.metadata, self._call.peer)
        self._handler_of(path)(request.SerializeToString(), cast(Call, inner))
        return inner


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with `prefix`; b"\\0" (no end) when there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else b"\0"


def first_created(prefix: bytes) -> rpc.RangeRequest:
    """The oldest key with `prefix`: the holder of a lock, the leader of an election."""
    return rpc.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        limit=1,
        sort_order=rpc.RangeRequest.ASCEND,
        sort_target=rpc.RangeRequest.CREATE,
    )


def last_created_before(prefix: bytes, create_revision: int) -> rpc.RangeRequest:
    """The youngest key with `prefix` that is older than `create_revision`: who to wait for."""
    return rpc.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        limit=1,
        sort_order=rpc.RangeRequest.DESCEND,
        sort_target=rpc.RangeRequest.CREATE,
        max_create_revision=create_revision - 1,
    )
