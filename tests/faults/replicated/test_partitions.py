"""The leader is cut off from one of its parts, with nothing closed: requests and answers just do not arrive."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from faults.replicated.kit import hold, scenario
from harness.nodes import BrainCluster
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs


@pytest.mark.parametrize("reads", [True, False], ids=["its clients read", "its clients write"])
@pytest.mark.parametrize("way", ["both", "down"])
def test_leader_from_redis(cluster: BrainCluster, tmp_path: Path, way: str, reads: bool) -> None:
    """It cannot renew, or does not hear that it has: another one leads, and it serves nobody by itself."""
    with scenario(cluster, tmp_path, leader_only_reads=reads) as load:
        cluster.partition(load.leader, "redis", way=way)
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.heal()


def test_leader_from_nats(cluster: BrainCluster, tmp_path: Path) -> None:
    """Its events do not arrive: followers read them from the engine."""
    with scenario(cluster, tmp_path) as load:
        cluster.partition(load.leader, "nats")
        load.served()
        hold(cluster.lease_seconds)
        load.served()
        cluster.heal()


@pytest.mark.parametrize("way", ["both", "down"])
def test_leader_from_the_engine(cluster: BrainCluster, tmp_path: Path, way: str) -> None:
    """It cannot commit, or does not hear that it has: another one must lead, and say what became of its last writes."""
    with scenario(cluster, tmp_path) as load:
        cluster.partition(load.leader, "engine", way=way)
        cluster.wait_leader(other_than=load.leader, timeout=2 * load.bound())
        load.writes_go_on()
        cluster.heal()


def test_leader_that_dies_before_it_hears_of_its_commits(cluster: BrainCluster, tmp_path: Path) -> None:
    """They have landed, acknowledged to nobody: the next leader must have them, each once."""
    with scenario(cluster, tmp_path) as load:
        cluster.partition(load.leader, "engine", way="down")
        hold(cluster.lease_seconds / 6)
        cluster.kill(load.leader)
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.heal()
        cluster.start_node(load.leader)


def test_leader_from_its_followers(cluster: BrainCluster, tmp_path: Path) -> None:
    """It leads on and serves its own clients; followers refuse what needs it, and show what it has confirmed so far."""
    with scenario(cluster, tmp_path) as load:
        cluster.partition(load.leader, "control")
        load.writes_go_on()
        follower = cluster.others(load.leader)[0]
        with grpc.insecure_channel(follower.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            kv = stubs.KVStub(channel)
            kv.Range(rpc.RangeRequest(key=b"r/0", serializable=True), timeout=5)
            with pytest.raises(grpc.RpcError):
                kv.Range(rpc.RangeRequest(key=b"r/0"), timeout=1)
        cluster.heal()


@pytest.mark.parametrize("reads", [True, False], ids=["its clients read", "its clients write"])
def test_leader_from_everything(cluster: BrainCluster, tmp_path: Path, reads: bool) -> None:
    with scenario(cluster, tmp_path, leader_only_reads=reads) as load:
        cluster.partition(load.leader, "redis", "nats", "engine", "control")
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.heal()


def test_follower_from_everything(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        follower = cluster.others(load.leader)[0]
        cluster.partition(follower, "redis", "nats", "engine")
        cluster.proxy.pause(load.leader.link("control"), "down")  # for all followers: one has no link of its own
        load.writes_go_on()
        cluster.heal()


def test_connections_that_break_again_and_again(cluster: BrainCluster, tmp_path: Path) -> None:
    """In the middle of whatever is being said, on every link."""
    with scenario(cluster, tmp_path) as load:
        for turn in range(4):
            for link in cluster.links:
                cluster.proxy.limit(link, 1000 + 731 * turn)
            load.writes_go_on(20)
        cluster.heal()
