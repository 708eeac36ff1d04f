"""While authentication is enabled, everybody may call what their roles permit and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from brain.api.authkit import Users, both, read, write
from brain.api.fakes import Client
from brain.api.harness import AUTH, CLUSTER, ELECTION, KV, LEASE, LOCK, MAINTENANCE, WATCH, Server, run
from google.protobuf.message import Message
from wharf.brain.api.answered import Caller
from wharf.brain.api.pb import election, lock, rpc
from wharf.brain.errors import (
    BrainError,
    InvalidAuthToken,
    KeyNotProvided,
    PermissionDenied,
    UserEmpty,
    UserNotFound,
)
from wharf.brain.ha.router import Router
from wharf.wire.rpc import Call, Code, Kind, Method

OK = None
DENIED = PermissionDenied
MINE, ALSO_MINE, FOREIGN = b"mine/a", b"mine/b", b"foreign"
MINE_ONLY = 7  # a lease with keys of the tenant's
SHARED = 8  # and one with foreign keys too
EMPTY = 9


async def tenants(server: Server) -> Users:
    """A tenant who has mine/ and may see seen and write drop, and who else is on the node."""
    users = Users(server)
    for lease, keys in ((MINE_ONLY, (MINE,)), (SHARED, (ALSO_MINE, FOREIGN)), (EMPTY, ())):
        request = rpc.LeaseGrantRequest(ID=lease, TTL=600)
        await server.client.ask(LEASE + "LeaseGrant", request, rpc.LeaseGrantResponse)
        for key in keys:
            await server.put(key, b"v", lease)
    await users.enable()
    await users.add("tenant", both(b"mine/", b"mine0"), read(b"seen"), write(b"drop"), both(b"line/", b"line0"))
    return users


def watching(**fields: object) -> rpc.WatchRequest:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(**fields))  # type: ignore[arg-type]


def txn(*success: rpc.RequestOp) -> rpc.TxnRequest:
    return rpc.TxnRequest(success=success)


def ranged(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))


def nested(inner: rpc.TxnRequest) -> rpc.TxnRequest:
    return rpc.TxnRequest(failure=[rpc.RequestOp(request_txn=inner)])


def leader(key: bytes) -> election.LeaderKey:
    return election.LeaderKey(name=b"line", key=key, rev=1, lease=EMPTY)


# (method, request, what a caller without a name gets, what the tenant gets); root may do all of them
CASES: list[tuple[str, Message, type[BrainError] | None, type[BrainError] | None]] = [
    (KV + "Range", rpc.RangeRequest(key=MINE), UserEmpty, OK),
    (KV + "Range", rpc.RangeRequest(key=b"mine/", range_end=b"mine0"), UserEmpty, OK),
    (KV + "Range", rpc.RangeRequest(key=b"mine/", range_end=b"mine1"), UserEmpty, DENIED),
    (KV + "Range", rpc.RangeRequest(key=b"mine/", range_end=b"\0"), UserEmpty, DENIED),
    (KV + "Range", rpc.RangeRequest(key=b"seen"), UserEmpty, OK),
    (KV + "Range", rpc.RangeRequest(key=b"drop"), UserEmpty, DENIED),
    (KV + "RangeStream", rpc.RangeRequest(key=MINE), UserEmpty, OK),
    (KV + "RangeStream", rpc.RangeRequest(key=FOREIGN), UserEmpty, DENIED),
    (KV + "Put", rpc.PutRequest(key=MINE), UserEmpty, OK),
    (KV + "Put", rpc.PutRequest(key=b"seen"), UserEmpty, DENIED),
    (KV + "Put", rpc.PutRequest(key=b"drop"), UserEmpty, OK),
    (KV + "Put", rpc.PutRequest(key=b"drop", prev_kv=True), UserEmpty, DENIED),
    (KV + "Put", rpc.PutRequest(key=MINE, lease=MINE_ONLY), UserEmpty, OK),
    (KV + "Put", rpc.PutRequest(key=MINE, lease=SHARED), UserEmpty, DENIED),
    (KV + "DeleteRange", rpc.DeleteRangeRequest(key=b"mine/x", range_end=b"mine0"), UserEmpty, OK),
    (KV + "DeleteRange", rpc.DeleteRangeRequest(key=b"drop"), UserEmpty, OK),
    (KV + "DeleteRange", rpc.DeleteRangeRequest(key=b"drop", prev_kv=True), UserEmpty, DENIED),
    (KV + "DeleteRange", rpc.DeleteRangeRequest(key=FOREIGN), UserEmpty, DENIED),
    (KV + "Txn", txn(ranged(MINE)), UserEmpty, OK),
    (KV + "Txn", txn(ranged(MINE), ranged(FOREIGN)), UserEmpty, DENIED),
    (KV + "Txn", nested(txn(ranged(MINE))), UserEmpty, OK),
    (KV + "Txn", nested(txn(ranged(FOREIGN))), UserEmpty, DENIED),
    (KV + "Txn", rpc.TxnRequest(compare=[rpc.Compare(key=FOREIGN)]), UserEmpty, DENIED),
    (KV + "Txn", txn(rpc.RequestOp(request_put=rpc.PutRequest(key=MINE, lease=SHARED))), UserEmpty, DENIED),
    (KV + "Compact", rpc.CompactionRequest(revision=2), UserEmpty, DENIED),
    (LEASE + "LeaseGrant", rpc.LeaseGrantRequest(TTL=600), UserEmpty, OK),
    (LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=MINE_ONLY), UserEmpty, OK),
    (LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=SHARED), UserEmpty, DENIED),
    (LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=SHARED), UserEmpty, OK),
    (LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=SHARED, keys=True), UserEmpty, DENIED),
    (LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=MINE_ONLY, keys=True), UserEmpty, OK),
    (LEASE + "LeaseLeases", rpc.LeaseLeasesRequest(), UserEmpty, DENIED),
    (LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=SHARED), UserEmpty, DENIED),
    (LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=MINE_ONLY), UserEmpty, OK),
    (MAINTENANCE + "Status", rpc.StatusRequest(), UserEmpty, OK),
    (MAINTENANCE + "Alarm", rpc.AlarmRequest(), UserEmpty, OK),
    (MAINTENANCE + "Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE), UserEmpty, DENIED),
    (MAINTENANCE + "Defragment", rpc.DefragmentRequest(), UserEmpty, DENIED),
    (MAINTENANCE + "Hash", rpc.HashRequest(), UserEmpty, DENIED),
    (MAINTENANCE + "HashKV", rpc.HashKVRequest(), UserEmpty, DENIED),
    (MAINTENANCE + "Snapshot", rpc.SnapshotRequest(), UserEmpty, DENIED),
    (MAINTENANCE + "MoveLeader", rpc.MoveLeaderRequest(), UserEmpty, DENIED),
    (MAINTENANCE + "Downgrade", rpc.DowngradeRequest(), UserEmpty, DENIED),
    (CLUSTER + "MemberList", rpc.MemberListRequest(), UserEmpty, OK),
    (CLUSTER + "MemberAdd", rpc.MemberAddRequest(), UserEmpty, DENIED),
    (CLUSTER + "MemberRemove", rpc.MemberRemoveRequest(), UserEmpty, DENIED),
    (CLUSTER + "MemberUpdate", rpc.MemberUpdateRequest(), UserEmpty, DENIED),
    (CLUSTER + "MemberPromote", rpc.MemberPromoteRequest(), UserEmpty, DENIED),
    (AUTH + "AuthStatus", rpc.AuthStatusRequest(), OK, OK),
    (AUTH + "AuthEnable", rpc.AuthEnableRequest(), UserEmpty, DENIED),
    (AUTH + "AuthDisable", rpc.AuthDisableRequest(), UserEmpty, DENIED),
    (AUTH + "UserAdd", rpc.AuthUserAddRequest(name="x"), UserEmpty, DENIED),
    (AUTH + "UserGet", rpc.AuthUserGetRequest(name="root"), UserEmpty, DENIED),
    (AUTH + "UserGet", rpc.AuthUserGetRequest(name="tenant"), UserEmpty, OK),
    (AUTH + "UserGet", rpc.AuthUserGetRequest(), UserNotFound, DENIED),
    (AUTH + "UserList", rpc.AuthUserListRequest(), UserEmpty, DENIED),
    (AUTH + "UserDelete", rpc.AuthUserDeleteRequest(name="tenant"), UserEmpty, DENIED),
    (AUTH + "UserChangePassword", rpc.AuthUserChangePasswordRequest(name="tenant"), UserEmpty, DENIED),
    (AUTH + "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="root"), UserEmpty, DENIED),
    (AUTH + "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="root", role="root"), UserEmpty, DENIED),
    (AUTH + "RoleAdd", rpc.AuthRoleAddRequest(name="x"), UserEmpty, DENIED),
    (AUTH + "RoleGet", rpc.AuthRoleGetRequest(role="root"), UserEmpty, DENIED),
    (AUTH + "RoleGet", rpc.AuthRoleGetRequest(role="tenant"), UserEmpty, OK),
    (AUTH + "RoleList", rpc.AuthRoleListRequest(), UserEmpty, DENIED),
    (AUTH + "RoleDelete", rpc.AuthRoleDeleteRequest(role="tenant"), UserEmpty, DENIED),
    (AUTH + "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="tenant"), UserEmpty, DENIED),
    (AUTH + "RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="tenant"), UserEmpty, DENIED),
    (LOCK + "Lock", lock.LockRequest(name=b"line", lease=EMPTY), UserEmpty, OK),
    (LOCK + "Lock", lock.LockRequest(name=b"line"), UserEmpty, OK),
    (LOCK + "Lock", lock.LockRequest(name=b"line", lease=SHARED), UserEmpty, DENIED),
    (LOCK + "Lock", lock.LockRequest(name=b"other"), UserEmpty, DENIED),
    (LOCK + "Unlock", lock.UnlockRequest(key=b"line/9"), UserEmpty, OK),
    (LOCK + "Unlock", lock.UnlockRequest(key=FOREIGN), UserEmpty, DENIED),
    (ELECTION + "Campaign", election.CampaignRequest(name=b"line", lease=EMPTY), UserEmpty, OK),
    (ELECTION + "Campaign", election.CampaignRequest(name=b"other", lease=EMPTY), UserEmpty, DENIED),
    (ELECTION + "Proclaim", election.ProclaimRequest(leader=leader(FOREIGN)), UserEmpty, DENIED),
    (ELECTION + "Leader", election.LeaderRequest(name=b"other"), UserEmpty, DENIED),
    (ELECTION + "Observe", election.LeaderRequest(name=b"other"), UserEmpty, DENIED),
    (ELECTION + "Resign", election.ResignRequest(leader=leader(b"line/9")), UserEmpty, OK),
    (ELECTION + "Resign", election.ResignRequest(leader=leader(FOREIGN)), UserEmpty, DENIED),
]


async def outcome(client: Client, method: str, request: Message) -> tuple[int, str]:
    call = client.start(method, request)
    await call.ended.wait()
    assert call.code is not None
    return call.code, call.text


def expected(method: str, error: type[BrainError]) -> tuple[int, str]:
    """Locks and elections are clients of the API themselves: their errors lose the code on the way."""
    return (Code.UNKNOWN if method.startswith((LOCK, ELECTION)) else error.code), error.text


@pytest.mark.parametrize(("method", "request_", "nameless", "tenant"), CASES)
def test_who_may_call_what(
    method: str, request_: Message, nameless: type[BrainError] | None, tenant: type[BrainError] | None
) -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        callers = ((users.client(), nameless), (await users.enter("tenant"), tenant))
        for client, error in callers:
            found = await outcome(client, method, request_)
            assert found == ((Code.OK, "") if error is None else expected(method, error))

    run(scenario)


def test_every_method_has_a_case() -> None:
    async def scenario(server: Server) -> None:
        served = {method.path for method in server.api.methods}
        assert served - {method for method, *_ in CASES} == {WATCH, AUTH + "Authenticate"}

    run(scenario)


def test_root_is_refused_nothing() -> None:
    async def scenario(server: Server) -> None:
        root = await (await tenants(server)).enter("root")
        refusals = {DENIED.text, UserEmpty.text, InvalidAuthToken.text}
        spared = (AUTH + "AuthDisable", AUTH + "UserDelete", AUTH + "RoleDelete")
        for method, request, *_ in CASES:
            if method not in spared and not method.startswith((LOCK, ELECTION)):  # where places in line are taken
                assert (await outcome(root, method, request))[1] not in refusals, method

    run(scenario)


def test_a_method_without_a_rule_is_not_served() -> None:
    async def scenario(server: Server) -> None:
        guard = server.api.guard
        with pytest.raises(KeyError, match="Forgotten"):
            guard.methods([Method("/etcdserverpb.KV/Forgotten", Kind.UNARY, lambda data, call: call.reply(data))])
        with pytest.raises(KeyError, match="Forgotten"):
            guard.methods([Method("/etcdserverpb.KV/Forgotten", Kind.STREAM, lambda call: call.finish())])

    run(scenario)


def test_faults_of_a_request_come_before_the_question_who_asks() -> None:
    async def scenario(server: Server) -> None:
        client = (await tenants(server)).client()
        assert (await outcome(client, KV + "Range", rpc.RangeRequest()))[1] == KeyNotProvided.text
        assert (await outcome(client, KV + "Put", rpc.PutRequest()))[1] == KeyNotProvided.text
        call = client.start(KV + "Put", b"\x0a\xff")
        assert call.code == Code.INTERNAL
        assert client.start(LOCK + "Lock", b"\x0a\xff").code == Code.INTERNAL
        assert client.start(LEASE + "LeaseKeepAlive", b"\x08").code == Code.INTERNAL

    run(scenario)


@pytest.mark.parametrize("name", [b"token", b"authorization"])
def test_a_token_counts_wherever_clients_put_it_until_it_expires(name: bytes) -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        token = (await users.token("tenant")).encode()
        for value in (token, b"Bearer " + token):
            await users.client((name, value)).ask(KV + "Range", rpc.RangeRequest(key=MINE), rpc.RangeResponse)

    run(scenario)


@pytest.mark.parametrize("token", [b"", b"nonsense", b"abc.1", b"\xff\xfe", b"QUJD" * 20])
def test_a_token_that_is_none_is_worse_than_no_token(token: bytes) -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        client = users.client((b"token", token))
        for method, request in (
            (KV + "Range", rpc.RangeRequest(key=MINE)),
            (AUTH + "AuthStatus", rpc.AuthStatusRequest()),
            (CLUSTER + "MemberList", rpc.MemberListRequest()),
        ):
            assert await outcome(client, method, request) == (InvalidAuthToken.code, InvalidAuthToken.text)
        await users.do("AuthDisable", rpc.AuthDisableRequest())
        await client.ask(KV + "Range", rpc.RangeRequest(key=MINE), rpc.RangeResponse)

    run(scenario)


def test_what_voids_tokens() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        one = rpc.RangeRequest(key=MINE)
        first = await users.enter("tenant")
        await users.do("RoleAdd", rpc.AuthRoleAddRequest(name="unrelated"))
        await first.ask(KV + "Range", one, rpc.RangeResponse)
        await users.do("AuthDisable", rpc.AuthDisableRequest())
        await users.do("AuthEnable", rpc.AuthEnableRequest())
        assert await first.refused(KV + "Range", one) == (InvalidAuthToken.code, InvalidAuthToken.text)
        second = await users.enter("tenant")
        await users.do("UserDelete", rpc.AuthUserDeleteRequest(name="tenant"))
        assert (await second.refused(KV + "Range", one))[1] == InvalidAuthToken.text
        await users.do("UserAdd", rpc.AuthUserAddRequest(name="tenant", password="pw"))
        assert (await second.refused(KV + "Range", one))[1] == InvalidAuthToken.text

    run(scenario)


def test_a_permission_counts_from_when_it_is_granted_to_when_it_is_revoked() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        client = await users.enter("tenant")
        one = rpc.RangeRequest(key=FOREIGN)
        assert (await client.refused(KV + "Range", one))[1] == DENIED.text
        await users.do("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="tenant", perm=read(FOREIGN)))
        await client.ask(KV + "Range", one, rpc.RangeResponse)
        await users.do("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="tenant", key=FOREIGN))
        assert (await client.refused(KV + "Range", one))[1] == DENIED.text

    run(scenario)


def test_certificates_name_callers_where_they_are_required() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        one, foreign = rpc.RangeRequest(key=MINE), rpc.RangeRequest(key=FOREIGN)
        assert (await users.client(common_name="tenant").refused(KV + "Range", one))[1] == UserEmpty.text
        by_certificate = Users(server, by_certificate=True)
        client = by_certificate.client(common_name="tenant")
        await client.ask(KV + "Range", one, rpc.RangeResponse)
        assert (await client.refused(KV + "Range", foreign))[1] == DENIED.text
        stranger = by_certificate.client(common_name="stranger")
        assert (await stranger.refused(KV + "Range", one))[1] == DENIED.text
        assert (await stranger.refused(KV + "Compact", rpc.CompactionRequest()))[1] == UserNotFound.text
        token = (b"token", (await users.token("root")).encode())
        await by_certificate.client(token, common_name="tenant").ask(KV + "Range", foreign, rpc.RangeResponse)

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (watching(key=MINE), ""),
        (watching(key=b"mine/", range_end=b"mine0"), ""),
        (
            watching(key=MINE, range_end=b"\0"),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (watching(key=FOREIGN), "rpc error: code = PermissionDenied desc = etcdserver: permission denied"),
        (watching(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied"),
        (watching(key=FOREIGN, start_revision=-1), "etcdserver: mvcc: required revision has been compacted"),
    ],
)
def test_a_watch_that_is_not_permitted_is_canceled_and_the_stream_goes_on(
    request_: rpc.WatchRequest, reason: str
) -> None:
    async def scenario(server: Server) -> None:
        call = (await (await tenants(server)).enter("tenant")).open(WATCH)
        call.say(request_)
        (first,) = await call.wait_sent(1)
        found = rpc.WatchResponse.FromString(first)
        assert (found.created, found.canceled, found.cancel_reason) == (True, bool(reason), reason)
        assert found.header.revision == server.node.store.revision
        assert found.watch_id == (-1 if reason else 0)
        call.say(watching(key=MINE))
        await call.wait_sent(2)
        revision = await server.put(MINE)
        sent = await call.wait_sent(3)
        assert rpc.WatchResponse.FromString(sent[2]).header.revision == revision
        call.cancel()

    run(scenario)


def test_a_watch_whose_caller_is_nobody_or_over_says_so() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        for client, reason in (
            (users.client(), "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"),
            (users.client((b"token", b"x")), "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"),
        ):
            call = client.open(WATCH)
            call.say(watching(key=MINE))
            (first,) = await call.wait_sent(1)
            assert rpc.WatchResponse.FromString(first).cancel_reason == reason
            call.cancel()

    run(scenario)


def test_who_does_not_read_refusals_is_not_listened_to() -> None:
    async def scenario(server: Server) -> None:
        call = (await tenants(server)).client().open(WATCH)
        call.writable = False
        call.say(watching(key=MINE))
        assert not call.reading
        call.drain()
        assert call.reading
        call.cancel()

    run(scenario)


def test_streams_opened_before_it_was_enabled_are_asked_from_then_on() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await server.client.ask(LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=1, TTL=600), rpc.LeaseGrantResponse)
        client = users.client()
        watch, alive = client.open(WATCH), client.open(LEASE + "LeaseKeepAlive")
        watch.say(watching(key=MINE))
        alive.say(rpc.LeaseKeepAliveRequest(ID=1))
        await watch.wait_sent(1)
        await alive.wait_sent(1)
        await users.enable()
        watch.say(watching(key=MINE))
        sent = await watch.wait_sent(2)
        assert rpc.WatchResponse.FromString(sent[1]).canceled
        revision = await server.put(MINE)
        sent = await watch.wait_sent(3)  # what was watched before goes on, as in etcd
        assert rpc.WatchResponse.FromString(sent[2]).header.revision == revision
        alive.say(rpc.LeaseKeepAliveRequest(ID=1))
        await alive.ended.wait()
        assert (alive.code, alive.text) == (UserEmpty.code, UserEmpty.text)
        watch.cancel()

    run(scenario)


def test_a_stream_that_waits_for_its_reads_is_asked_all_the_same() -> None:
    """On a follower the handler comes to a stream late, before or after the request does."""

    class Elsewhere:
        def __init__(self) -> None:
            self.reads: list[Callable[[bool], None]] = []

        def leads(self) -> bool:
            return False

        def proven(self) -> bool:
            return False

        def certain(self) -> bool:
            return True

        def reachable(self) -> bool:
            return True

        def ask(self, path: str, request: bytes, call: Call, done: Callable[..., None], caller: Caller) -> None: ...

        def read(self, done: Callable[[bool], None]) -> None:
            self.reads.append(done)

    async def scenario(server: Server) -> None:
        await tenants(server)
        leader = Elsewhere()
        router = Router(leader, 1.0, time.monotonic, lambda _, __: None)
        client = Client(server.api.route(router.routed))
        early, late = client.open(KV + "RangeStream"), client.open(KV + "RangeStream")
        early.say(rpc.RangeRequest(key=FOREIGN))
        for read_ in leader.reads:
            read_(True)
        leader.reads.clear()
        late.say(rpc.RangeRequest(key=FOREIGN))
        for call in (early, late):
            assert (call.done, call.text, call.sent) == (True, UserEmpty.text, [])

    run(scenario)
