"""Maintenance calls of a cluster of one."""

from __future__ import annotations

import hashlib

import pytest
from brain.api.harness import KV, MAINTENANCE, Server, run
from google.protobuf.message import Message
from wharf.brain.api.pb import rpc
from wharf.brain.api.snapshot_stream import ALIGNMENT
from wharf.brain.errors import (
    BadLeaderTransferee,
    BrainError,
    FutureRevision,
    InvalidDowngradeTargetVersion,
    NoSpace,
    UnknownMethod,
    WrongDowngradeVersionFormat,
)
from wharf.wire.rpc import Code


def test_status_leads_itself_and_has_a_version_kube_apiserver_trusts() -> None:
    async def scenario(server: Server) -> None:
        await server.put(b"k")
        status = await server.client.ask(MAINTENANCE + "Status", rpc.StatusRequest(), rpc.StatusResponse)
        version = tuple(int(part) for part in status.version.split("."))
        assert version >= (3, 5, 13)
        assert status.leader == status.header.member_id == server.node.store.member_id
        assert (status.header.revision, status.raftTerm, status.header.raft_term) == (2, 2, 2)
        assert status.raftIndex == status.raftAppliedIndex >= 2
        assert status.dbSizeQuota == 2 * 1024**3
        assert (list(status.errors), status.isLearner, status.downgradeInfo.enabled) == ([], False, False)

    run(scenario)


async def alarm(
    server: Server, action: int, kind: int = rpc.NOSPACE, member: int | None = None
) -> list[tuple[int, int]]:
    member = server.node.store.member_id if member is None else member
    request = rpc.AlarmRequest(memberID=member, alarm=kind)  # type: ignore[arg-type]
    request.action = action  # type: ignore[assignment]
    answer = await server.client.ask(MAINTENANCE + "Alarm", request, rpc.AlarmResponse)
    return [(member.memberID, member.alarm) for member in answer.alarms]


def test_alarms_are_raised_listed_and_disarmed() -> None:
    async def scenario(server: Server) -> None:
        own = server.node.store.member_id
        assert await alarm(server, rpc.AlarmRequest.GET) == []
        assert await alarm(server, rpc.AlarmRequest.ACTIVATE) == [(own, rpc.NOSPACE)]
        assert await alarm(server, rpc.AlarmRequest.GET, rpc.NONE) == [(own, rpc.NOSPACE)]
        assert await alarm(server, rpc.AlarmRequest.GET, rpc.CORRUPT) == []
        status = await server.client.ask(MAINTENANCE + "Status", rpc.StatusRequest(), rpc.StatusResponse)
        assert list(status.errors) == [f"memberID:{own} alarm:NOSPACE "]
        refused = await server.client.refused(KV + "Put", rpc.PutRequest(key=b"k"))
        assert refused == (NoSpace.code, NoSpace.text)
        assert await alarm(server, rpc.AlarmRequest.DEACTIVATE) == [(own, rpc.NOSPACE)]
        assert await alarm(server, rpc.AlarmRequest.DEACTIVATE) == []
        await server.put(b"k")

    run(scenario)


@pytest.mark.parametrize("member", [0, 4, 2**64 - 1])
def test_an_alarm_may_be_raised_for_any_member_id(member: int) -> None:
    async def scenario(server: Server) -> None:
        own = server.node.store.member_id
        assert await alarm(server, rpc.AlarmRequest.DEACTIVATE, member=member) == []
        assert await alarm(server, rpc.AlarmRequest.ACTIVATE, member=member) == [(member, rpc.NOSPACE)]
        assert await alarm(server, rpc.AlarmRequest.ACTIVATE) == [(own, rpc.NOSPACE)]
        assert set(await alarm(server, rpc.AlarmRequest.GET)) == {(member, rpc.NOSPACE), (own, rpc.NOSPACE)}
        status = await server.client.ask(MAINTENANCE + "Status", rpc.StatusRequest(), rpc.StatusResponse)
        other = f"memberID:{member} alarm:NOSPACE " if member else "alarm:NOSPACE "
        assert set(status.errors) == {other, f"memberID:{own} alarm:NOSPACE "}
        assert await alarm(server, rpc.AlarmRequest.DEACTIVATE) == [(own, rpc.NOSPACE)]
        refused = await server.client.refused(KV + "Put", rpc.PutRequest(key=b"k"))
        assert refused == (NoSpace.code, NoSpace.text)
        assert await alarm(server, rpc.AlarmRequest.DEACTIVATE, member=member) == [(member, rpc.NOSPACE)]
        await server.put(b"k")

    run(scenario)


def test_the_alarm_of_the_quota_is_raised_for_this_member() -> None:
    async def scenario(server: Server) -> None:
        refused = await server.client.refused(KV + "Put", rpc.PutRequest(key=b"k", value=bytes(100_000)))
        assert refused == (NoSpace.code, NoSpace.text)
        assert await alarm(server, rpc.AlarmRequest.GET) == [(server.node.store.member_id, rpc.NOSPACE)]

    run(scenario, quota_bytes=50_000)


def test_hashes_follow_the_data() -> None:
    async def scenario(server: Server) -> None:
        async def hash_kv(revision: int = 0) -> rpc.HashKVResponse:
            request = rpc.HashKVRequest(revision=revision)
            return await server.client.ask(MAINTENANCE + "HashKV", request, rpc.HashKVResponse)

        await server.put(b"k", b"1")
        first = await hash_kv()
        assert (first.hash_revision, first.compact_revision, first.header.revision) == (2, -1, 2)
        await server.put(b"k", b"2")
        assert (await hash_kv(2)).hash == first.hash
        assert (await hash_kv()).hash != first.hash
        refused = await server.client.refused(MAINTENANCE + "HashKV", rpc.HashKVRequest(revision=9))
        assert refused == (FutureRevision.code, FutureRevision.text)
        whole = await server.client.ask(MAINTENANCE + "Hash", rpc.HashRequest(), rpc.HashResponse)
        assert whole.hash

    run(scenario)


def test_defragmenting_answers_when_it_is_done() -> None:
    async def scenario(server: Server) -> None:
        await server.put(b"k")
        answer = await server.client.ask(MAINTENANCE + "Defragment", rpc.DefragmentRequest(), rpc.DefragmentResponse)
        assert not answer.HasField("header")
        assert (await server.get(b"k")).count == 1

    run(scenario)


def test_a_snapshot_is_followed_by_its_digest() -> None:
    async def scenario(server: Server) -> None:
        await server.put(b"k", bytes(100_000))
        call = server.client.open(MAINTENANCE + "Snapshot")
        call.writable = False
        call.say(rpc.SnapshotRequest())
        await call.wait_sent(1)
        assert len(call.sent) == 1  # a reader who takes nothing is sent no more
        call.drain()
        await call.ended.wait()
        assert call.code == Code.OK
        pieces = [rpc.SnapshotResponse.FromString(data) for data in call.sent]
        content = b"".join(piece.blob for piece in pieces[:-1])
        assert len(content) % ALIGNMENT == 0
        assert pieces[-1].blob == hashlib.sha256(content).digest()
        assert [piece.remaining_bytes for piece in pieces[-2:]] == [0, 0]
        assert pieces[0].remaining_bytes == len(content) - len(pieces[0].blob)
        assert {piece.version for piece in pieces} == {"3.7.0"}

    run(scenario)


def test_a_snapshot_nobody_waits_for_ends() -> None:
    async def scenario(server: Server) -> None:
        call = server.client.start(MAINTENANCE + "Snapshot", rpc.SnapshotRequest())
        assert len(server.node.tasks) == 1
        call.cancel()
        await server.node.tasks.stop()
        assert len(server.node.tasks) == 0

    run(scenario)


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        ("MoveLeader", rpc.MoveLeaderRequest(targetID=4), BadLeaderTransferee),
        ("Downgrade", rpc.DowngradeRequest(version="x"), WrongDowngradeVersionFormat),
        ("Downgrade", rpc.DowngradeRequest(version="3.2"), InvalidDowngradeTargetVersion),
        (
            "Downgrade",
            rpc.DowngradeRequest(action=rpc.DowngradeRequest.ENABLE, version="3.6"),
            InvalidDowngradeTargetVersion,
        ),
        ("Downgrade", rpc.DowngradeRequest.FromString(b"\x08\x09"), UnknownMethod),
    ],
)
def test_refusals(method: str, request_: Message, error: type[BrainError]) -> None:
    async def scenario(server: Server) -> None:
        assert await server.client.refused(MAINTENANCE + method, request_) == (error.code, error.text)

    run(scenario)


def test_what_changes_nothing_succeeds() -> None:
    async def scenario(server: Server) -> None:
        own = rpc.MoveLeaderRequest(targetID=server.node.store.member_id)
        await server.client.ask(MAINTENANCE + "MoveLeader", own, rpc.MoveLeaderResponse)
        cancel = rpc.DowngradeRequest(action=rpc.DowngradeRequest.CANCEL)
        answer = await server.client.ask(MAINTENANCE + "Downgrade", cancel, rpc.DowngradeResponse)
        assert answer.version == "3.7"

    run(scenario)
