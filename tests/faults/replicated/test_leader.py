"""The leader is killed, frozen or told to end while clients write and read on every node."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.replicated.kit import hold, scenario
from harness.nodes import BrainCluster


def test_without_a_fault(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        load.writes_go_on(300)


def test_kill(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        cluster.kill(load.leader)
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.start_node(load.leader)


def test_kill_of_a_follower(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        follower = cluster.others(load.leader)[0]
        cluster.kill(follower)
        load.writes_go_on()
        assert cluster.wait_leader() is load.leader
        cluster.start_node(follower)


def test_an_end_by_sigterm_hands_over(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        assert cluster.stop_node(load.leader) == 0
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.start_node(load.leader)


def test_a_freeze_shorter_than_the_lease(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        cluster.freeze(load.leader)
        hold(cluster.lease_seconds / 3)
        cluster.thaw(load.leader)


@pytest.mark.parametrize("reads", [True, False], ids=["its clients read", "its clients write"])
def test_a_freeze_longer_than_the_lease(cluster: BrainCluster, tmp_path: Path, reads: bool) -> None:
    """What the frozen leader had under way when it wakes up must not land, and its clients must not be lied to."""
    with scenario(cluster, tmp_path, leader_only_reads=reads) as load:
        cluster.freeze(load.leader)
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        cluster.thaw(load.leader)


def test_one_kill_after_the_other(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        first = load.leader
        cluster.kill(first)
        second = cluster.wait_leader(other_than=first, timeout=load.bound())
        cluster.kill(second)
        cluster.start_node(first)
        cluster.wait_leader(other_than=second, timeout=load.bound())
        cluster.start_node(second)
