"""v3lockpb.Lock and v3electionpb.Election: waiting in line on the server's side.

Each call that waits is a task that ends with its call: when the client goes away its place in line is given up.
Errors of the store travel as UNKNOWN with the store's text, because in etcd these services are clients of the API
themselves.
"""

from __future__ import annotations

from contextlib import aclosing

from wharf.brain.api import decode
from wharf.brain.api.encode import blob, message
from wharf.brain.api.local import LocalClient, first_created, prefix_end
from wharf.brain.api.node import Node
from wharf.brain.api.pb import election, mvcc
from wharf.brain.api.pb import lock as locks
from wharf.brain.api.queue import Ticket, if_owner, take_ticket, wait_for_turn
from wharf.brain.api.service import server_stream, unary
from wharf.brain.api.tasks import Work
from wharf.brain.errors import (
    BrainError,
    ClientSideError,
    ElectionNoLeader,
    ElectionNotLeader,
    KeyNotProvided,
    LeaderFieldMissing,
    SessionExpired,
)
from wharf.brain.store.shapes import DeleteOp, PutOp, RangeOp
from wharf.wire.rpc import Call, Method

SESSION_TTL = 60  # seconds: the lease of a caller who brings none


async def _as_client(work: Work) -> bytes | None:
    """`work`, its store errors told the way a client's errors are."""
    try:
        return await work()
    except BrainError as error:
        raise ClientSideError(error) from error


class _Api:
    def __init__(self, node: Node) -> None:
        self._client = LocalClient(node)
        self._header = node.encoder.header
        self._tasks = node.tasks

    def _run(self, call: Call, work: Work) -> None:
        self._tasks.run(call, lambda: _as_client(work))

    async def _lease(self, lease_id: int) -> int:
        """The caller's lease, or a new one."""
        return lease_id or await self._client.grant(SESSION_TTL)

    async def _stand_in_line(self, prefix: bytes, lease_id: int, value: bytes) -> Ticket:
        """A ticket whose turn has come; given back if the caller leaves before."""
        ticket = await take_ticket(self._client, prefix, lease_id, value)
        try:
            await self._renew_value(ticket, lease_id, value)
            await wait_for_turn(self._client, prefix, ticket.create_revision)
        except BaseException:
            self._client.delete_later(ticket.key)
            raise
        return ticket

    async def _renew_value(self, ticket: Ticket, lease_id: int, value: bytes) -> None:
        """A candidate who stands already may come back with another value."""


def _delete(key: bytes) -> DeleteOp:
    if not key:
        raise KeyNotProvided
    return DeleteOp(key)


class LockApi(_Api):
    """v3lockpb.Lock."""

    def methods(self) -> list[Method]:
        return [unary("/v3lockpb.Lock/Lock", self.lock), unary("/v3lockpb.Lock/Unlock", self.unlock)]

    def lock(self, data: bytes, call: Call) -> None:
        request = decode.parse(locks.LockRequest, data)
        self._run(call, lambda: self._lock(request))

    def unlock(self, data: bytes, call: Call) -> None:
        request = decode.parse(locks.UnlockRequest, data)
        self._run(call, lambda: self._unlock(request))

    async def _lock(self, request: locks.LockRequest) -> bytes:
        lease_id = await self._lease(request.lease)
        ticket = await self._stand_in_line(request.name + b"/", lease_id, b"")
        revision, held = self._client.get(RangeOp(ticket.key))
        if not held:
            raise SessionExpired
        return self._header(revision) + blob(0x12, ticket.key)

    async def _unlock(self, request: locks.UnlockRequest) -> bytes:
        committed = await self._client.submit(_delete(request.key))
        return self._header(committed.revision)


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
        self._run(call, lambda: self._campaign(request))

    def proclaim(self, data: bytes, call: Call) -> None:
        request = decode.parse(election.ProclaimRequest, data)
        self._run(call, lambda: self._proclaim(request))

    def resign(self, data: bytes, call: Call) -> None:
        request = decode.parse(election.ResignRequest, data)
        self._run(call, lambda: self._resign(request))

    def observe(self, data: bytes, call: Call) -> None:
        prefix = decode.parse_message(election.LeaderRequest, data).name + b"/"
        self._run(call, lambda: self._observe(prefix, call))

    def leader(self, data: bytes, call: Call) -> None:
        prefix = decode.parse(election.LeaderRequest, data).name + b"/"
        revision, found = self._client.get(first_created(prefix))
        if not found:
            raise ElectionNoLeader
        call.reply(self._leader_response(revision, found[0]))

    async def _campaign(self, request: election.CampaignRequest) -> bytes:
        lease_id = await self._lease(request.lease)
        ticket = await self._stand_in_line(request.name + b"/", lease_id, request.value)
        leader = election.LeaderKey(name=request.name, key=ticket.key, rev=ticket.create_revision, lease=lease_id)
        return self._header(ticket.revision) + message(0x12, leader.SerializeToString())

    async def _renew_value(self, ticket: Ticket, lease_id: int, value: bytes) -> None:
        if ticket.existing is not None and ticket.existing.value != value:
            await self._put_as_owner(ticket.key, ticket.create_revision, lease_id, value)

    async def _proclaim(self, request: election.ProclaimRequest) -> bytes:
        if not request.HasField("leader"):
            raise LeaderFieldMissing
        leader = request.leader
        lease_id = await self._lease(leader.lease)
        return self._header(await self._put_as_owner(leader.key, leader.rev, lease_id, request.value))

    async def _put_as_owner(self, key: bytes, create_revision: int, lease_id: int, value: bytes) -> int:
        committed = await if_owner(self._client, key, create_revision, PutOp(key, value, lease_id))
        if committed is None:
            raise ElectionNotLeader
        return committed.revision

    async def _resign(self, request: election.ResignRequest) -> bytes:
        if not request.HasField("leader"):
            raise LeaderFieldMissing
        leader = request.leader
        committed = await if_owner(self._client, leader.key, leader.rev, DeleteOp(leader.key))
        return self._header(self._client.revision if committed is None else committed.revision)

    async def _observe(self, prefix: bytes, call: Call) -> None:
        """Every leader from now on, with every value it proclaims."""
        while True:
            revision, found = self._client.get(first_created(prefix))
            if found:
                leader = found[0]
            else:
                revision, leader = await self._first_put(prefix, revision)
            call.send(self._leader_response(revision, leader))
            await self._follow(leader.key, revision + 1, call)

    async def _first_put(self, prefix: bytes, revision: int) -> tuple[int, mvcc.KeyValue]:
        while True:
            async with aclosing(self._client.watch(prefix, prefix_end(prefix), revision)) as responses:
                async for response in responses:
                    for event in response.events:
                        if event.type == mvcc.Event.PUT:
                            return event.kv.mod_revision, event.kv
            revision = self._client.revision

    async def _follow(self, key: bytes, start_revision: int, call: Call) -> None:
        """Send each new value of a leader; returns when it is gone."""
        async with aclosing(self._client.watch(key, b"", start_revision)) as responses:
            async for response in responses:
                for event in response.events:
                    if event.type == mvcc.Event.DELETE:
                        return
                    call.send(self._leader_response(response.header.revision, event.kv))

    def _leader_response(self, revision: int, leader: mvcc.KeyValue) -> bytes:
        return self._header(revision) + message(0x12, leader.SerializeToString())
