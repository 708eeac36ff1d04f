"""Redis, NATS and PostgreSQL themselves: restarted, wiped, killed; messages lost, doubled and disordered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.replicated.kit import hold, replace_leader_over_unanswered_batch, scenario
from harness.nodes import BrainCluster


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_restarts(cluster: BrainCluster, tmp_path: Path, how: str) -> None:
    with scenario(cluster, tmp_path):
        cluster.postgres.restart(how)


def test_redis_is_wiped(cluster: BrainCluster, tmp_path: Path) -> None:
    """Two nodes may believe that they lead; the history tells whether one of them was believed."""
    with scenario(cluster, tmp_path) as load:
        cluster.redis.wipe()
        load.served()
        cluster.redis.wipe()


def test_redis_dies_and_comes_back(cluster: BrainCluster, tmp_path: Path) -> None:
    """The leader goes on while its lease lasts, then nobody leads; what a node has it shows all the time."""
    with scenario(cluster, tmp_path):
        cluster.redis.kill()
        hold(2 * cluster.lease_seconds)
        cluster.redis.start()


@pytest.mark.parametrize("reads", [True, False], ids=["its clients read", "its clients write"])
def test_redis_is_wiped_behind_the_leaders_back(cluster: BrainCluster, tmp_path: Path, reads: bool) -> None:
    """The leader does not hear of it and believes on; whoever wins the lease at once must wait for it all the same."""
    with scenario(cluster, tmp_path, leader_only_reads=reads) as load:
        cluster.partition(load.leader, "redis", *(["control"] if reads else []))  # nothing that would tell it is sent
        cluster.redis.wipe()
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.heal()


def test_redis_is_wiped_beside_a_frozen_leader(cluster: BrainCluster, tmp_path: Path) -> None:
    """Everything that could tell a candidate how long to wait is gone, but for the engine."""
    with scenario(cluster, tmp_path, leader_only_reads=True) as load:
        cluster.freeze(load.leader)
        cluster.redis.wipe()
        cluster.wait_leader(other_than=load.leader, timeout=2 * load.bound())
        cluster.thaw(load.leader)


def test_a_leader_is_replaced_over_a_batch_whose_answer_is_withheld(cluster: BrainCluster, tmp_path: Path) -> None:
    """What landed is not executed again: the replaced leader reads the log before it answers."""
    with scenario(cluster, tmp_path) as load:
        for _ in range(2):
            replace_leader_over_unanswered_batch(load)


def test_nats_dies_and_comes_back(cluster: BrainCluster, tmp_path: Path) -> None:
    assert cluster.nats is not None
    with scenario(cluster, tmp_path) as load:
        cluster.nats.kill()
        load.served()
        hold(cluster.lease_seconds)
        cluster.nats.start()


def test_messages_are_lost_doubled_and_disordered(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        for node in cluster.nodes:
            cluster.proxy.garble_nats(node.link("nats"), drop=0.1, duplicate=0.3, reorder=0.2)
        load.served()
        load.writes_go_on(400)
        told = [cluster.proxy.stats(node.link("nats")) for node in cluster.nodes]
        for what in ("dropped", "duplicated", "reordered"):
            assert sum(one[what] for one in told) > 10, told
        for node in cluster.nodes:
            cluster.proxy.heal(node.link("nats"))
            cluster.proxy.reset(node.link("nats"))


@pytest.fixture(scope="module")
def without_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrainCluster]:
    with BrainCluster(tmp_path_factory.mktemp("plain"), nats=False) as cluster:
        yield cluster


def test_a_cluster_without_nats(without_nats: BrainCluster, tmp_path: Path) -> None:
    with scenario(without_nats, tmp_path) as load:
        without_nats.kill(load.leader)
        without_nats.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        without_nats.start_node(load.leader)
