"""A node that comes while a batch has landed and its leader has not heard of it yet."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
from faults.kit import CALL_SECONDS, Client
from harness.nodes import BrainCluster
from wharf.common.pb.etcd import rpc_pb2 as rpc

LEASE_MS = 8000  # the leader must go on long enough for another node to start beside it
KEY, OLD, NEW = b"joining/key", b"old", b"new"
TRY_SECONDS = 0.5


def value(client: Client, serializable: bool) -> bytes | None:
    """What a node answers at once, if it answers."""
    request = rpc.RangeRequest(key=KEY, serializable=serializable)
    try:
        return client.kv.Range(request, timeout=TRY_SECONDS).kvs[0].value
    except grpc.RpcError:
        return None


def test_a_node_that_starts_does_not_show_what_its_leader_does_not(tmp_path: Path) -> None:
    """It loads what the engine has, which may be more; whoever read that here would read less at the leader next."""
    with BrainCluster(tmp_path, lease_ms=LEASE_MS) as cluster:
        leader = cluster.wait_leader()
        node = cluster.others(leader)[0]
        with Client(leader.address) as at_leader, Client(node.address) as at_node:
            revision = max(at_leader.put(KEY, OLD) for _ in range(3))  # its statement is known to the server by now
            cluster.kill(node)
            cluster.partition(leader, "engine", way="down")
            put = at_leader.kv.Put.future(rpc.PutRequest(key=KEY, value=NEW), timeout=4 * CALL_SECONDS)
            deadline = time.monotonic() + CALL_SECONDS
            while int(cluster.postgres.sql("SELECT revision FROM wharf_brain.fence")) == revision:
                assert time.monotonic() < deadline, "the batch did not land"
            node.process.start()
            end = time.monotonic() + LEASE_MS / 1000
            while time.monotonic() < end and not put.done():
                for serializable in (True, False):
                    here, there = value(at_node, serializable), value(at_leader, serializable=False)
                    assert (here, there) != (NEW, OLD), "a read went back behind another one"
            cluster.heal()
            grpc.channel_ready_future(at_node.channel).result(timeout=4 * CALL_SECONDS)
            deadline = time.monotonic() + 4 * CALL_SECONDS
            while value(at_node, serializable=False) != NEW:
                assert time.monotonic() < deadline, cluster.logs()
            assert value(at_node, serializable=True) == NEW
            put.cancel()
