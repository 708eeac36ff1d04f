"""What was revoked is refused on every node from the acknowledgement on, also on a node that has not heard of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from faults.replicated.test_users import DENIED, NAMELESS, VOID, Client, clients, make_users, until
from google.protobuf.message import Message
from harness.nodes import BrainCluster, BrainNode
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

CALL_SECONDS = 30.0  # longer than a node lets a request wait: each request gets the answer of the node
TIMED_OUT = "etcdserver: request timed out"  # of a node that cannot learn what the caller may do
ROUNDS = 10
TTL = 4  # seconds of a token


@dataclass(frozen=True)
class Barrier:
    """One way to use a permission: the empty text when it is admitted, else what refuses it."""

    name: str
    attempt: Callable[[Client, str, int], str]  # with a token and a lease that has the tenant's key


def named(token: str) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token else ()


def unary(client: Client, method: Callable[..., Message], request: Message, token: str) -> str:
    try:
        method(request, metadata=named(token), timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        return error.details() or error.code().name
    return ""


def put(client: Client, token: str, _: int) -> str:
    return unary(client, client.kv.Put, rpc.PutRequest(key=b"mine"), token)


def delete(client: Client, token: str, _: int) -> str:
    return unary(client, client.kv.DeleteRange, rpc.DeleteRangeRequest(key=b"mine"), token)


def txn(client: Client, token: str, _: int) -> str:
    operation = rpc.RequestOp(request_put=rpc.PutRequest(key=b"mine"))
    return unary(client, client.kv.Txn, rpc.TxnRequest(success=[operation]), token)


def keep_alive(client: Client, token: str, lease: int) -> str:
    lease_stub = stubs.LeaseStub(client.channel)
    request = iter([rpc.LeaseKeepAliveRequest(ID=lease)])
    return first(lease_stub.LeaseKeepAlive(request, metadata=named(token), timeout=CALL_SECONDS))


def time_to_live(client: Client, token: str, lease: int) -> str:
    lease_stub = stubs.LeaseStub(client.channel)
    return unary(client, lease_stub.LeaseTimeToLive, rpc.LeaseTimeToLiveRequest(ID=lease, keys=True), token)


def read(client: Client, token: str, _: int) -> str:
    return unary(client, client.kv.Range, rpc.RangeRequest(key=b"mine"), token)


def watch(client: Client, token: str, _: int) -> str:
    create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"mine"))
    call = stubs.WatchStub(client.channel).Watch(iter([create]), metadata=named(token), timeout=CALL_SECONDS)
    try:
        answer = next(call)
    except grpc.RpcError as error:
        return error.details() or error.code().name
    finally:
        call.cancel()
    return answer.cancel_reason if answer.canceled else ""


def first(call: Iterator[Message]) -> str:
    try:
        next(call)
    except grpc.RpcError as error:
        return error.details() or error.code().name
    return ""


WATCH, READ = Barrier("watch", watch), Barrier("read", read)
WRITES = [Barrier(one.__name__, one) for one in (put, delete, txn, keep_alive, time_to_live)]


@contextmanager
def with_users(folder: Path, *flags: str) -> Iterator[tuple[BrainCluster, list[BrainNode], list[Client]]]:
    """The leader and two followers, and their clients; root and the tenant exist, users are enabled."""
    with BrainCluster(folder, flags=flags) as cluster:
        leader = cluster.wait_leader()
        nodes = [leader, *cluster.others(leader)]
        with clients(nodes) as made:
            make_users(made[0])
            assert made[0].call(made[0].auth.AuthEnable, rpc.AuthEnableRequest()) == ""
            for client in made:
                until(partial(client.get, b"mine"), NAMELESS)
            yield cluster, nodes, made


def versions(client: Client, token: str) -> int:
    """How often the tenant's key has been put since it was created; 0: it has been deleted."""
    found = client.kv.Range(rpc.RangeRequest(key=b"mine"), metadata=named(token), timeout=CALL_SECONDS).kvs
    return found[0].version if found else 0


@pytest.mark.parametrize("barriers", [(WATCH, READ), WRITES], ids=["reads", "writes"])
def test_a_follower_cut_off_from_the_store_admits_nothing_that_was_revoked(
    tmp_path: Path, barriers: Sequence[Barrier]
) -> None:
    """Reads are apart from writes: a write moves the revision, which a node that is cut off never shows, so that it
    would answer no read whatever the permission.
    """
    with with_users(tmp_path) as (cluster, nodes, (led, behind, _)):
        root, tenant = led.token("root"), led.token("tenant")
        lease_stub = stubs.LeaseStub(led.channel)
        lease = lease_stub.LeaseGrant(rpc.LeaseGrantRequest(TTL=600), metadata=named(root), timeout=CALL_SECONDS).ID

        def attempt(barrier: Barrier) -> str:
            """By the tenant on the node that is behind; the lease has the tenant's key."""
            attached = rpc.PutRequest(key=b"mine", lease=lease)
            led.kv.Put(attached, metadata=named(root), timeout=CALL_SECONDS)
            return barrier.attempt(behind, tenant, lease)

        until(partial(attempt, READ), "")
        cluster.partition(nodes[1], "engine", "nats")  # it hears of nothing but by its session with the leader
        for barrier in barriers:
            answer = attempt(barrier) if barriers is WRITES else barrier.attempt(behind, tenant, lease)
            assert answer == "", f"{barrier.name} is permitted so far"
        version = versions(led, root)
        revoke = rpc.AuthUserRevokeRoleRequest(name="tenant", role="tenant")
        assert led.call(led.auth.UserRevokeRole, revoke, root) == ""
        for barrier in barriers:
            answer = barrier.attempt(behind, tenant, lease)
            assert DENIED in answer or answer == TIMED_OUT, f"{barrier.name} after it was revoked: {answer!r}"
            assert versions(led, root) == version, f"{barrier.name} has changed the key"
        cluster.heal()
        for barrier in (*WRITES, WATCH, READ):
            until(partial(barrier.attempt, behind, tenant, lease), DENIED)
        assert versions(led, root) == version, "a refused write was done later"
        grant = rpc.AuthUserGrantRoleRequest(user="tenant", role="tenant")
        assert led.call(led.auth.UserGrantRole, grant, root) == ""
        assert put(behind, tenant, lease) == ""
        assert versions(led, root) == version + 1, "a permitted write counts"


def test_a_follower_cut_off_from_the_store_admits_nobody_without_a_name_after_users_are_enabled(tmp_path: Path) -> None:
    with BrainCluster(tmp_path) as cluster:
        leader = cluster.wait_leader()
        follower = cluster.others(leader)[0]
        with clients([leader, follower]) as (led, behind):
            make_users(led)
            until(partial(behind.get, b"mine"), "")
            cluster.partition(follower, "engine", "nats")
            assert watch(behind, "", 0) == ""
            assert behind.call(behind.auth.UserAdd, rpc.AuthUserAddRequest(name="x", password="x")) == ""
            assert led.call(led.auth.AuthEnable, rpc.AuthEnableRequest()) == ""
            grant = rpc.AuthUserGrantRoleRequest(user="tenant", role="root")
            snapshot = stubs.MaintenanceStub(behind.channel).Snapshot(rpc.SnapshotRequest(), timeout=CALL_SECONDS)
            answers = [
                unary(behind, behind.auth.UserGrantRole, grant, ""),
                put(behind, "", 0),
                watch(behind, "", 0),
                first(snapshot),
            ]
            for answer in answers:
                assert NAMELESS in answer or answer == TIMED_OUT
            cluster.heal()
            until(partial(put, behind, "", 0), NAMELESS)
            root = led.token("root")
            assert versions(led, root) == 0, "the refused write was done"
            asked = rpc.AuthUserGetRequest(name="tenant")
            assert list(led.auth.UserGet(asked, metadata=named(root), timeout=CALL_SECONDS).roles) == ["tenant"]


def test_a_linearizable_read_without_nats_never_shows_what_was_written_after_the_permission_was_revoked(
    tmp_path: Path,
) -> None:
    with with_users(tmp_path) as (cluster, _, (led, behind, other)):
        root, tenant = led.token("root"), led.token("tenant")
        assert cluster.nats is not None
        cluster.nats.close()
        grant = rpc.AuthUserGrantRoleRequest(user="tenant", role="tenant")
        revoke = rpc.AuthUserRevokeRoleRequest(name="tenant", role="tenant")
        for number in range(ROUNDS):
            client = (behind, other)[number % 2]
            assert client.call(led.auth.UserRevokeRole, revoke, root) == ""
            assert led.put(b"mine", root) == ""
            assert DENIED in client.get(b"mine", tenant)
            assert led.call(led.auth.UserGrantRole, grant, root) == ""
            assert client.get(b"mine", tenant) == "", "what was granted is granted everywhere at once"


def test_a_token_lives_as_long_as_it_is_used_on_any_node(tmp_path: Path) -> None:
    with with_users(tmp_path, f"--auth-token-ttl={TTL}") as (cluster, nodes, (led, behind, other)):
        tenant, idle = led.token("tenant"), led.token("tenant")
        lease = stubs.LeaseStub(behind.channel)
        granted = lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), metadata=named(tenant), timeout=CALL_SECONDS).ID
        end = time.monotonic() + 2.5 * TTL
        while time.monotonic() < end:
            renewal = iter([rpc.LeaseKeepAliveRequest(ID=granted)])
            assert first(lease.LeaseKeepAlive(renewal, metadata=named(tenant), timeout=CALL_SECONDS)) == ""
            time.sleep(TTL / 8)  # the interval of a client that keeps its lease alive
        assert put(other, tenant, 0) == "", "the node has never seen the token"
        for client in (led, behind, other):
            assert VOID in put(client, idle, 0)
        cluster.kill(nodes[0])
        until(partial(put, other, tenant, 0), "")
        deadline = time.monotonic() + 3 * TTL
        time.sleep(1.2 * TTL)  # without a use
        assert VOID in put(behind, tenant, 0)
        assert time.monotonic() < deadline
