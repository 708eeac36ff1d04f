"""Users, roles and tokens count on every node, whoever wrote them, and outlive the leader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
from google.protobuf.message import Message
from harness.nodes import BrainCluster, BrainNode
from wharf.common.pb.etcd import auth_pb2 as authpb
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

SECONDS = 30.0
POLL_SECONDS = 0.05
DENIED, NAMELESS, VOID = "permission denied", "user name is empty", "invalid auth token"
Answer = str


class Client:
    """Calls one node as whoever's token it is given."""

    def __init__(self, node: BrainNode) -> None:
        self.channel = grpc.insecure_channel(node.address, [("grpc.use_local_subchannel_pool", 1)])
        self.auth = stubs.AuthStub(self.channel)
        self.kv = stubs.KVStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def token(self, name: str) -> str:
        return self.auth.Authenticate(rpc.AuthenticateRequest(name=name, password=name), timeout=SECONDS).token

    def call(self, method: Callable[..., Message], request: Message, token: str = "") -> Answer:
        """Empty when it goes well, else what refuses it."""
        try:
            method(request, metadata=(("token", token),) if token else (), timeout=SECONDS)
        except grpc.RpcError as error:
            return error.details() or error.code().name
        return ""

    def get(self, key: bytes, token: str = "", *, serializable: bool = False) -> Answer:
        return self.call(self.kv.Range, rpc.RangeRequest(key=key, serializable=serializable), token)

    def put(self, key: bytes, token: str = "") -> Answer:
        return self.call(self.kv.Put, rpc.PutRequest(key=key), token)


@contextmanager
def clients(nodes: list[BrainNode]) -> Iterator[list[Client]]:
    made = [Client(node) for node in nodes]
    try:
        yield made
    finally:
        for client in made:
            client.close()


def until(found: Callable[[], Answer], wanted: Answer) -> None:
    """Wait for an answer that holds `wanted` (empty: for one that is empty)."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = found()
        if wanted in answer and bool(wanted) == bool(answer):
            return
        assert time.monotonic() < deadline, f"still {answer!r}, not {wanted!r}"
        time.sleep(POLL_SECONDS)


def make_users(client: Client) -> None:
    """root and a tenant who has one key."""
    auth = client.auth
    for name in ("root", "tenant"):
        assert client.call(auth.UserAdd, rpc.AuthUserAddRequest(name=name, password=name)) == ""
        assert client.call(auth.RoleAdd, rpc.AuthRoleAddRequest(name=name)) == ""
        assert client.call(auth.UserGrantRole, rpc.AuthUserGrantRoleRequest(user=name, role=name)) == ""
    assert client.call(auth.RoleGrantPermission, permission(b"mine")) == ""


def permission(key: bytes) -> rpc.AuthRoleGrantPermissionRequest:
    granted = authpb.Permission(permType=authpb.Permission.READWRITE, key=key)
    return rpc.AuthRoleGrantPermissionRequest(name="tenant", perm=granted)


def test_users_count_on_every_node_and_outlive_the_leader(tmp_path: Path) -> None:
    with BrainCluster(tmp_path) as cluster:
        leader = cluster.wait_leader()
        with clients([*cluster.others(leader), leader]) as (first, second, led):
            make_users(first)
            assert second.call(second.auth.AuthEnable, rpc.AuthEnableRequest()) == ""
            for client in (first, second, led):
                until(partial(client.get, b"mine"), NAMELESS)
            tenant, root = first.token("tenant"), led.token("root")
            for client in (first, second, led):
                assert client.put(b"mine", tenant) == ""
                assert client.get(b"mine", tenant) == client.get(b"mine", tenant, serializable=True) == ""
                assert DENIED in client.get(b"foreign", tenant)
                assert DENIED in client.put(b"foreign", tenant)
                assert client.put(b"foreign", root) == ""
                assert VOID in client.get(b"mine", "made up")
            cluster.kill(leader)
            until(partial(first.put, b"mine", tenant), "")
            assert DENIED in second.put(b"foreign", tenant)
            assert second.call(second.auth.RoleGrantPermission, permission(b"foreign"), root) == ""
            for client in (first, second):
                until(partial(client.get, b"foreign", tenant), "")
            assert first.call(first.auth.UserDelete, rpc.AuthUserDeleteRequest(name="tenant"), root) == ""
            for client in (first, second):
                until(partial(client.get, b"mine", tenant), VOID)
            cluster.start_node(leader)
            with clients([leader]) as (back,):
                until(partial(back.get, b"mine", tenant), VOID)
                until(partial(back.get, b"mine", root), "")
            assert first.call(first.auth.AuthDisable, rpc.AuthDisableRequest(), root) == ""
            for client in (first, second):
                until(partial(client.get, b"mine"), "")
        assert not [node.name for node in cluster.nodes if "Traceback" in node.process.output()], cluster.logs()
