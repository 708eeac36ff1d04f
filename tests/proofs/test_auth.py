"""Users, roles and permissions answer as etcd's do: one script of calls on both, each answer beside the other.

The script goes from a store without users to one that is asked and back. Where the etcd 3.6 that is built here asks
less than 3.7 does, steps are marked: brain follows 3.7, and the guard's own tests say what it asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message
from proofs import servers
from wharf.common.pb.etcd import auth_pb2 as authpb
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import v3election_pb2 as election
from wharf.common.pb.etcd import v3lock_pb2 as lock

SECONDS = 20.0
KV, LEASE, AUTH, MAINTENANCE = (f"etcdserverpb.{name}/" for name in ("KV", "Lease", "Auth", "Maintenance"))
WATCH, CLUSTER = "etcdserverpb.Watch/Watch", "etcdserverpb.Cluster/"
LOCK, ELECTION = "v3lockpb.Lock/", "v3electionpb.Election/"
PASSING = (  # what differs between any two servers
    *("header", "token", "version", "members", "leader", "hash", "key", "leases", "TTL"),
    *("dbSize", "dbSizeInUse", "raftIndex", "raftAppliedIndex"),
)
NOBODY, BROKEN = "", "broken"
OPEN = b"\0"


@dataclass(frozen=True, slots=True)
class Step:
    """One call. `who`: whose token goes with it; `stricter`: etcd before 3.6.9 does not ask what newer ones do."""

    who: str
    method: str
    request: Message
    stricter: bool = False


@dataclass(frozen=True, slots=True)
class Enter:
    """From now on calls by `who` carry the token of this password."""

    who: str
    password: str


Script = Sequence[Step | Enter]


def user(name: str, password: str = "", **fields: Any) -> Step:
    return Step(NOBODY, AUTH + "UserAdd", rpc.AuthUserAddRequest(name=name, password=password, **fields))


def grant(role: str, kind: int, key: bytes, range_end: bytes = b"", who: str = NOBODY) -> Step:
    permission = authpb.Permission(permType=kind, key=key, range_end=range_end)  # type: ignore[arg-type]
    return Step(who, AUTH + "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission))


def auth(method: str, request: Message, who: str = NOBODY) -> Step:
    return Step(who, AUTH + method, request)


READ, WRITE, READWRITE = 0, 1, 2
ROOT = rpc.AuthUserGrantRoleRequest(user="root", role="root")
BEFORE: Script = (
    auth("AuthStatus", rpc.AuthStatusRequest()),
    auth("AuthEnable", rpc.AuthEnableRequest()),
    auth("AuthDisable", rpc.AuthDisableRequest()),
    auth("Authenticate", rpc.AuthenticateRequest(name="root", password="x")),
    user(""),
    user("tenant", "tenant-pw"),
    user("tenant", "again"),
    user("cert", options=authpb.UserAddOptions(no_password=True)),
    user("ghost", "ghost-pw"),
    auth("UserGet", rpc.AuthUserGetRequest(name="none")),
    auth("UserDelete", rpc.AuthUserDeleteRequest(name="none")),
    auth("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="none", password="x")),
    auth("RoleAdd", rpc.AuthRoleAddRequest()),
    auth("RoleAdd", rpc.AuthRoleAddRequest(name="tenant")),
    auth("RoleAdd", rpc.AuthRoleAddRequest(name="tenant")),
    auth("RoleAdd", rpc.AuthRoleAddRequest(name="brief")),
    auth("RoleGet", rpc.AuthRoleGetRequest(role="none")),
    auth("RoleDelete", rpc.AuthRoleDeleteRequest(role="none")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="none", role="tenant")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="none")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="tenant")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="tenant")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="brief")),
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="cert", role="brief")),
    auth("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="none", role="tenant")),
    auth("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="tenant", role="none")),
    auth("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="tenant")),
    grant("none", READ, b"k"),
    grant("tenant", READ, b""),
    grant("tenant", READ, b"b", b"a"),
    grant("tenant", READWRITE, b"mine/", b"mine0"),
    grant("tenant", READ, b"seen"),
    grant("tenant", WRITE, b"seen"),
    grant("tenant", READ, b"seen"),
    grant("tenant", WRITE, b"drop"),
    grant("tenant", READ, b"tail", OPEN),
    grant("tenant", READWRITE, b"line/", b"line0"),
    grant("tenant", READ, b"aa", b"ab"),
    grant("tenant", READ, b"ab", b"ac"),
    grant("brief", READ, b"brief"),
    auth("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="none", key=b"k")),
    auth("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="tenant", key=b"k")),
    auth("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="tenant", key=b"mine/")),
    auth("RoleGet", rpc.AuthRoleGetRequest(role="tenant")),
    auth("UserGet", rpc.AuthUserGetRequest(name="tenant")),
    auth("UserList", rpc.AuthUserListRequest()),
    auth("RoleList", rpc.AuthRoleListRequest()),
    auth("AuthStatus", rpc.AuthStatusRequest()),
    user("root", "root-pw"),
    auth("AuthEnable", rpc.AuthEnableRequest()),
    auth("UserGrantRole", ROOT),
    auth("RoleAdd", rpc.AuthRoleAddRequest(name="root")),
    auth("RoleGet", rpc.AuthRoleGetRequest(role="root")),
    Step(NOBODY, LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=7, TTL=600)),
    Step(NOBODY, LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=8, TTL=600)),
    Step(NOBODY, LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=9, TTL=600)),
    Step(NOBODY, KV + "Put", rpc.PutRequest(key=b"mine/a", lease=7)),
    Step(NOBODY, KV + "Put", rpc.PutRequest(key=b"mine/b", lease=8)),
    Step(NOBODY, KV + "Put", rpc.PutRequest(key=b"foreign", lease=8)),
    auth("AuthEnable", rpc.AuthEnableRequest()),
    Enter("tenant", "tenant-pw"),
    Enter("root", "root-pw"),
    Enter("ghost", "ghost-pw"),
)


def range_(key: bytes, range_end: bytes = b"") -> rpc.RangeRequest:
    return rpc.RangeRequest(key=key, range_end=range_end)


def txn(*success: rpc.RequestOp, compare: bytes = b"") -> rpc.TxnRequest:
    return rpc.TxnRequest(compare=[rpc.Compare(key=compare)] if compare else [], success=success)


def ranged(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=range_(key))


def put(**fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(**fields))


def delete(**fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(**fields))


def watch(**fields: Any) -> rpc.WatchRequest:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(**fields))


def asked(who: str) -> Iterator[Step]:
    """What everybody asks for, who may and who may not."""
    yield from asked_of_keys(who)
    yield from asked_of_leases(who)
    yield from asked_of_watches(who)
    yield from asked_of_the_server(who)
    yield from asked_of_locks(who)
    yield from asked_of_users(who)


def asked_of_keys(who: str) -> Iterator[Step]:
    for key, range_end in (
        (b"mine/a", b""),
        (b"mine/", b"mine0"),
        (b"mine/", b"mine1"),
        (b"mine/", OPEN),
        (b"seen", b""),
        (b"drop", b""),
        (b"foreign", b""),
        (b"tail", OPEN),
        (b"tailor", b"u"),
        (b"aa", b"ac"),
        (b"aa", b"ac\0"),
        (b"", b""),
        (b"brief", b""),
    ):
        yield Step(who, KV + "Range", range_(key, range_end))
    for request in (
        rpc.PutRequest(key=b"mine/a"),
        rpc.PutRequest(key=b"seen"),
        rpc.PutRequest(key=b"drop"),
        rpc.PutRequest(key=b"drop", prev_kv=True),
        rpc.PutRequest(key=b"mine/c", prev_kv=True, lease=7),
        rpc.PutRequest(key=b"mine/c", lease=8),
        rpc.PutRequest(key=b"mine/c", lease=77),
        rpc.PutRequest(),
    ):
        yield Step(who, KV + "Put", request)
    for deletion in (
        rpc.DeleteRangeRequest(key=b"mine/x"),
        rpc.DeleteRangeRequest(key=b"mine/x", range_end=b"mine/z", prev_kv=True),
        rpc.DeleteRangeRequest(key=b"mine/x", range_end=b"mine1"),
        rpc.DeleteRangeRequest(key=b"drop", prev_kv=True),
        rpc.DeleteRangeRequest(key=b"seen"),
    ):
        yield Step(who, KV + "DeleteRange", deletion)
    for transaction in (
        txn(),
        txn(ranged(b"mine/a"), put(key=b"mine/d"), delete(key=b"mine/d"), compare=b"mine/a"),
        txn(compare=b"foreign"),
        txn(ranged(b"foreign")),
        txn(put(key=b"seen")),
        txn(delete(key=b"seen")),
        txn(delete(key=b"drop", prev_kv=True)),
        rpc.TxnRequest(failure=[ranged(b"foreign")]),
        txn(rpc.RequestOp()),
    ):
        yield Step(who, KV + "Txn", transaction)
    inner = rpc.RequestOp(request_txn=txn(ranged(b"foreign"), compare=b"mine/a"))
    yield Step(who, KV + "Txn", txn(inner), stricter=True)
    yield Step(who, KV + "Txn", txn(put(key=b"drop", prev_kv=True)), stricter=True)
    yield Step(who, KV + "Txn", txn(put(key=b"mine/d", lease=8)), stricter=True)


def asked_of_leases(who: str) -> Iterator[Step]:
    yield Step(who, LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7, keys=True))
    yield Step(who, LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=8, keys=True))
    yield Step(who, LEASE + "LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=8), stricter=True)
    yield Step(who, LEASE + "LeaseLeases", rpc.LeaseLeasesRequest(), stricter=True)
    yield Step(who, LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=9, TTL=600), stricter=True)
    yield Step(who, LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=7), stricter=True)
    yield Step(who, LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=8), stricter=True)
    yield Step(who, LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=77), stricter=True)
    yield Step(who, LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=77), stricter=True)
    if who != "root":
        yield Step(who, LEASE + "LeaseRevoke", rpc.LeaseRevokeRequest(ID=8))


def asked_of_watches(who: str) -> Iterator[Step]:
    for requested in (
        watch(key=b"mine/a"),
        watch(key=b"mine/", range_end=b"mine0"),
        watch(key=b"foreign"),
        watch(),
        watch(key=b"mine/", range_end=b"mine1"),
    ):
        yield Step(who, WATCH, requested)
    yield Step(who, WATCH, watch(key=b"mine/a", range_end=OPEN), stricter=True)
    yield Step(who, WATCH, watch(key=b"foreign", start_revision=-1), stricter=True)


def asked_of_the_server(who: str) -> Iterator[Step]:
    yield Step(who, KV + "Compact", rpc.CompactionRequest(revision=10_000), stricter=True)
    for method in ("Defragment", "Hash", "HashKV"):
        yield Step(who, MAINTENANCE + method, getattr(rpc, method + "Request")())
    yield Step(who, MAINTENANCE + "MoveLeader", rpc.MoveLeaderRequest(targetID=1))
    yield Step(who, MAINTENANCE + "Status", rpc.StatusRequest(), stricter=True)
    yield Step(who, MAINTENANCE + "Alarm", rpc.AlarmRequest(), stricter=True)
    yield Step(who, MAINTENANCE + "Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE), stricter=True)
    yield Step(who, CLUSTER + "MemberList", rpc.MemberListRequest(), stricter=True)
    yield Step(who, CLUSTER + "MemberRemove", rpc.MemberRemoveRequest(ID=1))


def asked_of_locks(who: str) -> Iterator[Step]:
    yield Step(who, LOCK + "Lock", lock.LockRequest(name=b"foreign"))
    yield Step(who, LOCK + "Lock", lock.LockRequest(name=b"line", lease=9))
    yield Step(who, LOCK + "Unlock", lock.UnlockRequest(key=b"line/9"))
    yield Step(who, LOCK + "Unlock", lock.UnlockRequest(key=b"foreign/9"))
    yield Step(who, ELECTION + "Leader", election.LeaderRequest(name=b"line"))
    yield Step(who, ELECTION + "Leader", election.LeaderRequest(name=b"other"))
    for key in (b"line/x", b"other/x"):
        leader = election.LeaderKey(name=b"n", key=key, rev=1, lease=9)
        yield Step(who, ELECTION + "Proclaim", election.ProclaimRequest(leader=leader))
        yield Step(who, ELECTION + "Resign", election.ResignRequest(leader=leader))


def asked_of_users(who: str) -> Iterator[Step]:
    yield Step(who, AUTH + "AuthStatus", rpc.AuthStatusRequest(), stricter=who != "root")
    for name in ("tenant", "root", "none", ""):
        yield auth("UserGet", rpc.AuthUserGetRequest(name=name), who)
        yield auth("RoleGet", rpc.AuthRoleGetRequest(role=name), who)
    yield auth("UserList", rpc.AuthUserListRequest(), who)
    yield auth("RoleList", rpc.AuthRoleListRequest(), who)
    yield auth("RoleAdd", rpc.AuthRoleAddRequest(), who)
    yield auth("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="none", password="x"), who)
    yield auth("AuthEnable", rpc.AuthEnableRequest(), who)
    yield auth("UserDelete", rpc.AuthUserDeleteRequest(name="root"), who)
    yield auth("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="root", role="root"), who)
    yield auth("RoleDelete", rpc.AuthRoleDeleteRequest(role="root"), who)
    if who != "root":
        yield auth("AuthDisable", rpc.AuthDisableRequest(), who)


def entering(name: str, password: str) -> Step:
    return auth("Authenticate", rpc.AuthenticateRequest(name=name, password=password))


BRIEF = Step("tenant", KV + "Range", range_(b"brief"))
AFTER: Script = (
    entering("root", "wrong"),
    entering("none", "root-pw"),
    entering("cert", "x"),
    auth("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="cert", password="x"), "root"),
    entering("cert", "x"),
    auth("RoleDelete", rpc.AuthRoleDeleteRequest(role="brief"), "root"),
    BRIEF,
    auth("UserGet", rpc.AuthUserGetRequest(name="cert"), "root"),
    grant("tenant", READ, b"brief", who="root"),
    BRIEF,
    auth("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="tenant", key=b"brief"), "root"),
    BRIEF,
    auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="tenant", role="root"), "root"),
    BRIEF,
    auth("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="tenant", role="root"), "root"),
    BRIEF,
    auth("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="tenant", password="new"), "root"),
    BRIEF,
    entering("tenant", "tenant-pw"),
    Enter("tenant", "new"),
    BRIEF,
    auth("UserDelete", rpc.AuthUserDeleteRequest(name="tenant"), "root"),
    BRIEF,
    auth("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="ghost"), "root"),
    entering("ghost", "ghost-pw"),
    entering("ghost", ""),
    auth("AuthStatus", rpc.AuthStatusRequest(), "root"),
    auth("AuthDisable", rpc.AuthDisableRequest(), "root"),
    auth("AuthStatus", rpc.AuthStatusRequest()),
    BRIEF,
    auth("AuthEnable", rpc.AuthEnableRequest()),
    Step("root", KV + "Range", range_(b"brief")),
)
SCRIPT: Script = (
    *BEFORE,
    *(step for who in (NOBODY, BROKEN, "ghost", "tenant", "root") for step in asked(who)),
    *AFTER,
)


def serialized(request: Message) -> bytes:
    return request.SerializeToString()


class Caller:
    """Plays steps on one server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self._channel).result(timeout=SECONDS)
        self._tokens = {BROKEN: "nonsense.1"}

    def close(self) -> None:
        self._channel.close()

    def play(self, script: Script) -> list[tuple[str, ...]]:
        """(status, text) of each step, or its answer as text."""
        return [self._enter(step) if isinstance(step, Enter) else self._call(step) for step in script]

    def _enter(self, step: Enter) -> tuple[str, ...]:
        ask = self._channel.unary_unary(f"/{AUTH}Authenticate", serialized, rpc.AuthenticateResponse.FromString)
        self._tokens[step.who] = ask(rpc.AuthenticateRequest(name=step.who, password=step.password)).token
        return ("entered",)

    def _call(self, step: Step) -> tuple[str, ...]:
        service, name = step.method.split("/")
        files = (rpc, lock, election)
        method = next(
            found.methods_by_name[name]
            for found in (file.DESCRIPTOR.services_by_name.get(service.split(".")[1]) for file in files)
            if found is not None
        )
        answer = message_factory.GetMessageClass(method.output_type)
        token = self._tokens.get(step.who)
        metadata = () if token is None else (("token", token),)
        call = self._channel.stream_stream(f"/{step.method}", serialized, answer.FromString)(
            iter((step.request,)), metadata=metadata, timeout=SECONDS
        )
        try:
            first = next(call)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        call.cancel()
        return "OK", readable(first)


def readable(answer: Message) -> str:
    """What two servers may be compared by: etcd tells the keys of a lease in no order."""
    for field, _ in answer.ListFields():
        if field.name in PASSING:
            answer.ClearField(field.name)
    if isinstance(answer, rpc.LeaseTimeToLiveResponse):
        answer.keys.sort()
    return str(answer)


def differences(script: Script, found: list[tuple[str, ...]], wanted: list[tuple[str, ...]]) -> list[str]:
    """Where two servers answer a script otherwise."""
    return [
        f"{number}: {step}\n brain {mine}\n etcd  {theirs}"
        for number, (step, mine, theirs) in enumerate(zip(script, found, wanted, strict=True))
        if mine != theirs
    ]


def test_every_call_is_answered_as_etcd_answers_it(tmp_path: Path) -> None:
    script = [step for step in SCRIPT if isinstance(step, Enter) or not step.stricter]
    played = []
    for name in ("brain", "etcd-3.6"):
        store = servers.start(name, tmp_path / name)
        try:
            caller = Caller(f"127.0.0.1:{store.port}")
            played.append(caller.play(script))
            caller.close()
        finally:
            store.stop()
    assert differences(script, *played) == []
