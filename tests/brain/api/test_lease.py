"""Leases as clients of etcd know them."""

from __future__ import annotations

from typing import cast

from brain.api.fakes import FakeCall
from brain.api.harness import LEASE, Server, run
from wharf.brain.api.answered import AnsweredCall
from wharf.brain.api.lease import KeepAliveStream
from wharf.brain.api.pb import rpc
from wharf.brain.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge
from wharf.wire.rpc import Call, Code


async def grant(server: Server, lease_id: int = 0, ttl: int = 60) -> rpc.LeaseGrantResponse:
    return await server.client.ask(
        LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl), rpc.LeaseGrantResponse
    )


async def left(server: Server, lease_id: int) -> rpc.LeaseTimeToLiveResponse:
    request = rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=True)
    return await server.client.ask(LEASE + "LeaseTimeToLive", request, rpc.LeaseTimeToLiveResponse)


def test_grant_attach_revoke() -> None:
    async def scenario(server: Server) -> None:
        granted = await grant(server, 7)
        assert (granted.ID, granted.TTL, granted.header.revision, granted.error) == (7, 60, 1, "")
        await server.put(b"k", lease=7)
        found = await left(server, 7)
        assert (found.grantedTTL, list(found.keys)) == (60, [b"k"])
        assert 58 <= found.TTL <= 60
        revoked = await server.client.ask(LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=7), rpc.LeaseRevokeResponse)
        assert revoked.header.revision == 3
        assert (await server.get(b"k")).count == 0
        assert (await left(server, 7)).TTL == -1

    run(scenario)


def test_ids_are_chosen_when_none_is_given() -> None:
    async def scenario(server: Server) -> None:
        first, second = await grant(server), await grant(server)
        assert 0 < first.ID != second.ID > 0
        listed = await server.client.ask(LEASE + "LeaseLeases", rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
        assert {status.ID for status in listed.leases} == {first.ID, second.ID}

    run(scenario)


def test_refusals() -> None:
    async def scenario(server: Server) -> None:
        await grant(server, 7)
        for request, error in (
            (rpc.LeaseGrantRequest(ID=7, TTL=60), LeaseExists),
            (rpc.LeaseGrantRequest(TTL=9_000_000_001), LeaseTtlTooLarge),
        ):
            assert await server.client.refused(LEASE + "LeaseGrant", request) == (error.code, error.text)
        refused = await server.client.refused(LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=8))
        assert refused == (LeaseNotFound.code, LeaseNotFound.text)

    run(scenario)


async def renewals(call: FakeCall, count: int) -> list[tuple[int, int]]:
    found = [rpc.LeaseKeepAliveResponse.FromString(data) for data in await call.wait_sent(count)]
    return [(one.ID, one.TTL) for one in found]


def test_keep_alive_answers_everything_before_it_ends() -> None:
    async def scenario(server: Server) -> None:
        await grant(server, 7)
        call = server.client.open(LEASE + "LeaseKeepAlive")
        for lease_id in (7, 8, 7):
            call.say(rpc.LeaseKeepAliveRequest(ID=lease_id))
        assert call.on_half_close is not None
        call.on_half_close()
        await call.ended.wait()
        assert call.code == Code.OK
        assert await renewals(call, 3) == [(7, 60), (8, 0), (7, 60)]

    run(scenario)


def test_a_stopping_server_ends_keep_alives() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.open(LEASE + "LeaseKeepAlive")
        await server.api.stop()
        assert call.code == Code.UNAVAILABLE
        assert server.client.open(LEASE + "LeaseKeepAlive").code == Code.UNAVAILABLE

    run(scenario)


def test_keep_alive_answers_in_the_order_of_the_requests() -> None:
    """Renewals that another node answers may be done in any order."""
    renewed: list[AnsweredCall] = []

    def keep(_: bytes, call: Call) -> None:
        renewed.append(cast(AnsweredCall, call))

    sent = FakeCall()
    stream = KeepAliveStream(keep, cast(Call, sent))
    for _ in range(3):
        stream.renew(b"")
    stream.half_close()
    for at in (2, 0):
        renewed[at].reply(b"%d" % at)
    assert sent.sent == [b"0"]
    renewed[1].reply(b"1")
    assert sent.sent == [b"0", b"1", b"2"]
    assert sent.code == Code.OK


def test_keep_alive_refusal_comes_after_earlier_answers_and_ends_the_stream() -> None:
    renewed: list[AnsweredCall] = []
    sent = FakeCall()
    stream = KeepAliveStream(lambda _, call: renewed.append(cast(AnsweredCall, call)), cast(Call, sent))
    for _ in range(3):
        stream.renew(b"")
    renewed[1].finish(Code.UNAVAILABLE, "no leader")
    assert not sent.done
    renewed[0].reply(b"0")
    assert sent.sent == [b"0"]
    assert sent.code == Code.UNAVAILABLE
    assert renewed[2].done
