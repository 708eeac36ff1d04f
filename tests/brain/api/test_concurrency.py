"""Locks and elections: one holder, the oldest waiter next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from brain.api.harness import ELECTION, KV, LEASE, LOCK, Server, run
from wharf.brain.api.pb import election, lock, rpc
from wharf.brain.api.queue import ticket_key
from wharf.brain.errors import (
    ElectionNoLeader,
    ElectionNotLeader,
    LeaderFieldMissing,
    LeaseNotFound,
    NoLeader,
    RequestTimeout,
)
from wharf.wire.rpc import Call, Code, Kind, Method, UnaryHandler


async def lease(server: Server, lease_id: int) -> int:
    request = rpc.LeaseGrantRequest(ID=lease_id, TTL=60)
    return (await server.client.ask(LEASE + "LeaseGrant", request, rpc.LeaseGrantResponse)).ID


async def campaign(server: Server, lease_id: int, value: bytes) -> election.LeaderKey:
    request = election.CampaignRequest(name=b"e", lease=lease_id, value=value)
    return (await server.client.ask(ELECTION + "Campaign", request, election.CampaignResponse)).leader


def test_keys_are_named_as_etcd_names_them() -> None:
    assert ticket_key(b"l/", 300) == b"l/12c"
    assert ticket_key(b"l/", -300) == b"l/-12c"


def test_a_lock_passes_to_the_oldest_waiter() -> None:
    async def scenario(server: Server) -> None:
        ids = [await lease(server, number) for number in (1, 2, 3)]
        held = await server.client.ask(LOCK + "Lock", lock.LockRequest(name=b"l", lease=1), lock.LockResponse)
        assert held.key == b"l/1"
        second, third = [server.client.start(LOCK + "Lock", lock.LockRequest(name=b"l", lease=n)) for n in ids[1:]]
        while (await server.get(b"l/", b"l0")).count < 3:
            await server.put(b"tick")
        assert not second.done
        await server.client.ask(LOCK + "Unlock", lock.UnlockRequest(key=held.key), lock.UnlockResponse)
        await second.ended.wait()
        assert lock.LockResponse.FromString(second.sent[0]).key == b"l/2"
        assert not third.done
        third.cancel()
        while (await server.get(b"l/3")).count:
            await server.put(b"tick")

    run(scenario)


def test_a_lock_is_given_to_its_holder_again() -> None:
    async def scenario(server: Server) -> None:
        await lease(server, 1)
        for _ in range(2):
            held = await server.client.ask(LOCK + "Lock", lock.LockRequest(name=b"l", lease=1), lock.LockResponse)
            assert (held.key, held.header.revision) == (b"l/1", 2)

    run(scenario)


def test_a_lock_without_a_lease_gets_one() -> None:
    async def scenario(server: Server) -> None:
        held = await server.client.ask(LOCK + "Lock", lock.LockRequest(name=b"l"), lock.LockResponse)
        (kv,) = (await server.get(held.key)).kvs
        assert held.key == b"l/%x" % kv.lease

    run(scenario)


def test_a_dead_lease_is_told_as_a_client_would() -> None:
    async def scenario(server: Server) -> None:
        refused = await server.client.refused(LOCK + "Lock", lock.LockRequest(name=b"l", lease=99))
        assert refused == (Code.UNKNOWN, LeaseNotFound.text)

    run(scenario)


def test_an_election() -> None:
    async def scenario(server: Server) -> None:
        ask = server.client.ask
        for number in (1, 2):
            await lease(server, number)
        assert await server.client.refused(ELECTION + "Leader", election.LeaderRequest(name=b"e")) == (
            Code.UNKNOWN,
            ElectionNoLeader.text,
        )
        observer = server.client.start(ELECTION + "Observe", election.LeaderRequest(name=b"e"))
        leader = await campaign(server, 1, b"one")
        rival = server.client.start(ELECTION + "Campaign", election.CampaignRequest(name=b"e", lease=2, value=b"two"))
        proclaim = election.ProclaimRequest(leader=leader, value=b"uno")
        await ask(ELECTION + "Proclaim", proclaim, election.ProclaimResponse)
        found = await ask(ELECTION + "Leader", election.LeaderRequest(name=b"e"), election.LeaderResponse)
        assert found.kv.value == b"uno"
        assert not rival.done
        await ask(ELECTION + "Resign", election.ResignRequest(leader=leader), election.ResignResponse)
        await rival.ended.wait()
        seen = [election.LeaderResponse.FromString(data).kv.value for data in await observer.wait_sent(3)]
        assert seen == [b"one", b"uno", b"two"]
        stale = await server.client.refused(ELECTION + "Proclaim", proclaim)
        assert stale == (Code.UNKNOWN, ElectionNotLeader.text)
        observer.cancel()

    run(scenario)


def test_campaigning_again_changes_the_value() -> None:
    async def scenario(server: Server) -> None:
        await lease(server, 1)
        first, again = await campaign(server, 1, b"one"), await campaign(server, 1, b"uno")
        assert (first.key, first.rev) == (again.key, again.rev)
        assert (await server.get(first.key)).kvs[0].value == b"uno"

    run(scenario)


def test_requests_without_a_leader_are_refused() -> None:
    async def scenario(server: Server) -> None:
        missing = (Code.UNKNOWN, LeaderFieldMissing.text)
        assert await server.client.refused(ELECTION + "Proclaim", election.ProclaimRequest()) == missing
        assert await server.client.refused(ELECTION + "Resign", election.ResignRequest()) == missing

    run(scenario)


def test_a_stopping_server_ends_those_who_wait() -> None:
    async def scenario(server: Server) -> None:
        for number in (1, 2):
            await lease(server, number)
        await campaign(server, 1, b"one")
        rival = server.client.start(ELECTION + "Campaign", election.CampaignRequest(name=b"e", lease=2))
        await server.put(b"tick")
        await server.api.stop()
        assert rival.code == Code.UNAVAILABLE
        late = server.client.start(ELECTION + "Campaign", election.CampaignRequest(name=b"e", lease=2))
        assert late.code == Code.UNAVAILABLE

    run(scenario)


def test_a_waiter_that_leaves_is_removed_though_no_node_leads_at_that_moment() -> None:
    """Its requests go the way of a client's, so they reach the node that leads next."""

    async def scenario(server: Server) -> None:
        await lease(server, 1)
        held = await server.client.ask(LOCK + "Lock", lock.LockRequest(name=b"l", lease=1), lock.LockResponse)
        await lease(server, 2)
        waiting = server.client.start(LOCK + "Lock", lock.LockRequest(name=b"l", lease=2))
        nameless = server.client.start(LOCK + "Lock", lock.LockRequest(name=b"l"))
        while (await server.get(b"l/", b"l0")).count < 3:
            await server.put(b"tick")
        refused: list[str] = []
        leads = asyncio.Event()
        served = {method.path: method for method in server.api.methods}

        def changing(method: Method) -> Method:
            def handler(data: bytes, call: Call) -> None:
                if leads.is_set():
                    cast(UnaryHandler, served[method.path].handler)(data, call)
                    return
                refused.append(method.path)
                if len(refused) == 3:
                    leads.set()
                call.finish(NoLeader.code, NoLeader.text)

            return Method(method.path, method.kind, handler) if method.kind is Kind.UNARY else method

        server.api.serve([changing(method) for method in server.api.methods])
        waiting.cancel()
        nameless.cancel()
        while (await server.get(b"l/", b"l0")).count > 1:
            await server.put(b"tick")
        assert sorted(refused) == [KV + "Txn", KV + "Txn", LEASE + "LeaseRevoke"]
        assert (await server.get(b"l/", b"l0")).kvs[0].key == held.key

    run(scenario)


def test_a_waiter_that_leaves_while_its_key_is_created_is_removed() -> None:
    async def scenario(server: Server) -> None:
        await lease(server, 1)
        await server.client.ask(LOCK + "Lock", lock.LockRequest(name=b"l", lease=1), lock.LockResponse)
        await lease(server, 2)
        held: list[Callable[[], None]] = []
        served = {method.path: cast(UnaryHandler, method.handler) for method in server.api.methods}

        def late(data: bytes, call: Call) -> None:
            held.append(lambda: served[KV + "Txn"](data, call))

        server.api.serve([*server.api.methods, Method(KV + "Txn", Kind.UNARY, late)])
        waiting = server.client.start(LOCK + "Lock", lock.LockRequest(name=b"l", lease=2))
        while not held:
            await server.put(b"tick")
        waiting.cancel()
        server.api.serve(server.api.methods)
        before = await server.put(b"tick")
        held.pop()()
        assert await server.put(b"tick") == before + 2, "the key was created meanwhile"
        while (await server.get(b"l/2")).kvs:
            await server.put(b"tick")

    run(scenario)


class Held:
    """The last read of a call that waits in a queue stays unanswered: of its own key, or of the keys before its own."""

    def __init__(self, server: Server, own_key: bool) -> None:
        self.asked = asyncio.Event()
        self.calls: list[Call] = []
        served = {method.path: cast(UnaryHandler, method.handler) for method in server.api.methods}

        def handler(data: bytes, call: Call) -> None:
            if bool(rpc.RangeRequest.FromString(data).range_end) is own_key:
                served[KV + "Range"](data, call)
            else:
                self.calls.append(call)
                self.asked.set()

        server.api.serve([*server.api.methods, Method(KV + "Range", Kind.UNARY, handler)])


@pytest.mark.parametrize("end", ["cancelled", "refused"])
@pytest.mark.parametrize("lease_id", [1, 0])
@pytest.mark.parametrize("path", [LOCK + "Lock", ELECTION + "Campaign"])
def test_a_client_that_leaves_before_the_answer_to_its_last_read_holds_nothing(
    path: str, lease_id: int, end: str
) -> None:
    request = lock.LockRequest if path.startswith(LOCK) else election.CampaignRequest

    async def scenario(server: Server) -> None:
        await lease(server, 1)
        held = Held(server, own_key=path.startswith(LOCK))
        waiting = server.client.start(path, request(name=b"l", lease=lease_id))
        await held.asked.wait()
        server.api.serve(server.api.methods)
        assert (await server.get(b"l/", b"l0")).count == 1, "it has its turn"
        if end == "cancelled":
            waiting.cancel()
        else:
            held.calls[0].finish(RequestTimeout.code, RequestTimeout.text)
            await waiting.ended.wait()
        async with asyncio.timeout(20):
            while (await server.get(b"l/", b"l0")).count:
                await server.put(b"tick")
        again = server.client.start(path, request(name=b"l", lease=1))
        await again.ended.wait()
        assert again.sent, "it is free"

    run(scenario)
