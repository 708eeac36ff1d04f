"""v3lockpb.Lock and v3electionpb.Election, served on the node that the client calls.

As in etcd these services are clients of the API: their requests need the permissions of their caller, and wait through
a change of leader. Each call is a task that ends with its call: a waiter that leaves is removed from the queue. Errors
of the store travel as UNKNOWN with the store's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from wharf.brain.api import decode
from wharf.brain.api.encode import blob, message
from wharf.brain.api.local import HandlerOf, LocalClient, first_created, prefix_end
from wharf.brain.api.node import Node
from wharf.brain.api.pb import election, mvcc, rpc
from wharf.brain.api.pb import lock as locks
from wharf.brain.api.queue import Ticket, delete_if_owner, put_if_owner, take_ticket, wait_for_turn
from wharf.brain.api.service import server_stream, unary
from wharf.brain.errors import (
    BrainError,
    ClientSideError,
    ElectionNoLeader,
    ElectionNotLeader,
    KeyNotProvided,
    LeaderFieldMissing,
    SessionExpired,
)
from wharf.wire.rpc import Call, Method

SESSION_TTL = 60  # seconds: the lease of a caller who brings none


ClientWork = Callable[[LocalClient], Awaitable[bytes | None]]


class _Api:
    def __init__(self, node: Node, handler_of: HandlerOf) -> None:
        self._hub, self._handler_of = node.hub, handler_of
        self._header = node.encoder.header
        self._tasks = node.tasks

    def _run(self, call: Call, work: ClientWork) -> None:
        client = LocalClient(self._hub, self._handler_of, call)

        async def run() -> bytes | None:
            try:
                return await work(client)
            except BrainError as error:
                raise ClientSideError(error) from error

        self._tasks.run(call, run)

    @asynccontextmanager
    async def _turn(self, client: LocalClient, prefix: bytes, lease_id: int, value: bytes) -> AsyncIterator[Ticket]:
        """A ticket whose turn has come. If the caller leaves, or a request fails, before the block ends, its key goes,
        also one that is being created; so does a lease that was granted for it.
        """
        granted = 0 if lease_id else await client.grant(SESSION_TTL)
        taking = asyncio.create_task(take_ticket(client, prefix, lease_id or granted, value))
        try:
            ticket = await asyncio.shield(taking)
            await self._renew_value(client, ticket, lease_id, value)
            await wait_for_turn(client, prefix, ticket.create_revision)
            yield ticket
        except BaseException:
            if granted:
                client.revoke_later(granted)
            taking.add_done_callback(lambda taken: _leave_queue(client, taken))
            raise

    async def _renew_value(self, client: LocalClient, ticket: Ticket, lease_id: int, value: bytes) -> None:
        """A candidate that waits already may come back with another value."""


def _leave_queue(client: LocalClient, taken: asyncio.Task[Ticket]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        ticket = taken.result()
        client.delete_later(ticket.key, ticket.create_revision)


class LockApi(_Api):
    """v3lockpb.Lock."""

    def methods(self) -> list[Method]:
        return [unary("/v3lockpb.Lock/Lock", self.lock), unary("/v3lockpb.Lock/Unlock", self.unlock)]

    def lock(self, data: bytes, call: Call) -> None:
        request = decode.parse(locks.LockRequest, data)
        self._run(call, lambda client: self._lock(client, request))

    def unlock(self, data: bytes, call: Call) -> None:
        request = decode.parse(locks.UnlockRequest, data)
        self._run(call, lambda client: self._unlock(client, request))

    async def _lock(self, client: LocalClient, request: locks.LockRequest) -> bytes:
        async with self._turn(client, request.name + b"/", request.lease, b"") as ticket:
            revision, held = await client.get(rpc.RangeRequest(key=ticket.key))
            if not held:
                raise SessionExpired
            return self._header(revision) + blob(0x12, ticket.key)

    async def _unlock(self, client: LocalClient, request: locks.UnlockRequest) -> bytes:
        if not request.key:
            raise KeyNotProvided
        return self._header(await client.delete(request.key))


class ElectionApi(_Api):
    """v3electionpb.Election."""

    def methods(self) -> list[Method]:
        service = "/v3electionpb.Election/"
        return [
            unary(service + "Campaign", self.campaign),
            unary(service + "Proclaim", self.proclaim),
            unary(service + "Leader", self.leader),
            server_stream(service + "Observe", self.observe),
            unary(service + "Resign", self.resign),
        ]

    def campaign(self, data: bytes, call: Call) -> None:
        request = decode.parse(election.CampaignRequest, data)
        self._run(call, lambda client: self._campaign(client, request))

    def proclaim(self, data: bytes, call: Call) -> None:
        request = decode.parse(election.ProclaimRequest, data)
        self._run(call, lambda client: self._proclaim(client, request))

    def resign(self, data: bytes, call: Call) -> None:
        request = decode.parse(election.ResignRequest, data)
        self._run(call, lambda client: self._resign(client, request))

    def observe(self, data: bytes, call: Call) -> None:
        prefix = decode.parse_message(election.LeaderRequest, data).name + b"/"
        self._run(call, lambda client: self._observe(client, prefix, call))

    def leader(self, data: bytes, call: Call) -> None:
        prefix = decode.parse(election.LeaderRequest, data).name + b"/"
        self._run(call, lambda client: self._leader(client, prefix))

    async def _leader(self, client: LocalClient, prefix: bytes) -> bytes:
        revision, found = await client.get(first_created(prefix))
        if not found:
            raise ElectionNoLeader
        return self._leader_response(revision, found[0])

    async def _campaign(self, client: LocalClient, request: election.CampaignRequest) -> bytes:
        async with self._turn(client, request.name + b"/", request.lease, request.value) as ticket:
            leader = election.LeaderKey(
                name=request.name, key=ticket.key, rev=ticket.create_revision, lease=ticket.lease_id
            )
            return self._header(ticket.revision) + message(0x12, leader.SerializeToString())

    async def _renew_value(self, client: LocalClient, ticket: Ticket, lease_id: int, value: bytes) -> None:
        if ticket.existing is not None and ticket.existing.value != value:
            await self._put_as_owner(client, ticket.key, ticket.create_revision, lease_id, value)

    async def _proclaim(self, client: LocalClient, request: election.ProclaimRequest) -> bytes:
        if not request.HasField("leader"):
            raise LeaderFieldMissing
        leader = request.leader
        lease_id = leader.lease or await client.grant(SESSION_TTL)
        return self._header(await self._put_as_owner(client, leader.key, leader.rev, lease_id, request.value))

    async def _put_as_owner(
        self, client: LocalClient, key: bytes, create_revision: int, lease_id: int, value: bytes
    ) -> int:
        revision = await put_if_owner(client, key, create_revision, lease_id, value)
        if not revision:
            raise ElectionNotLeader
        return revision

    async def _resign(self, client: LocalClient, request: election.ResignRequest) -> bytes:
        if not request.HasField("leader"):
            raise LeaderFieldMissing
        return self._header(await delete_if_owner(client, request.leader.key, request.leader.rev))

    async def _observe(self, client: LocalClient, prefix: bytes, call: Call) -> None:
        """Every leader from now on, with every value it proclaims."""
        while True:
            revision, found = await client.get(first_created(prefix))
            if found:
                leader = found[0]
            else:
                revision, leader = await self._first_put(client, prefix, revision)
            call.send(self._leader_response(revision, leader))
            await self._follow(client, leader.key, revision + 1, call)

    async def _first_put(self, client: LocalClient, prefix: bytes, revision: int) -> tuple[int, mvcc.KeyValue]:
        while True:
            async with aclosing(client.watch(prefix, prefix_end(prefix), revision)) as responses:
                async for response in responses:
                    for event in response.events:
                        if event.type == mvcc.Event.PUT:
                            return event.kv.mod_revision, event.kv
            revision, found = await client.get(first_created(prefix))  # the history up to here is compacted
            if found:
                return revision, found[0]

    async def _follow(self, client: LocalClient, key: bytes, start_revision: int, call: Call) -> None:
        """Send each new value of a leader; returns when it is gone."""
        async with aclosing(client.watch(key, b"", start_revision)) as responses:
            async for response in responses:
                for event in response.events:
                    if event.type == mvcc.Event.DELETE:
                        return
                    call.send(self._leader_response(response.header.revision, event.kv))

    def _leader_response(self, revision: int, leader: mvcc.KeyValue) -> bytes:
        return self._header(revision) + message(0x12, leader.SerializeToString())
