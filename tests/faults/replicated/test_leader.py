"""The leader is killed, frozen or told to end while clients write and read on every node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from faults.replicated.kit import hold, scenario
from harness.nodes import BrainCluster
from harness.store import server_command


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
    """Nobody waits for a lease to run out."""
    with scenario(cluster, tmp_path) as load:
        assert cluster.stop_node(load.leader) == 0
        cluster.wait_leader(other_than=load.leader, timeout=load.bound())
        load.writes_go_on()
        assert load.silence() < cluster.lease_seconds
        cluster.start_node(load.leader)


def test_a_leader_that_is_told_to_step_down_hands_over(cluster: BrainCluster, tmp_path: Path) -> None:
    with scenario(cluster, tmp_path) as load:
        heir = cluster.others(load.leader)[0]
        endpoint = f"--endpoint=http://127.0.0.1:{load.leader.control_port}"
        words = [*server_command("brain"), "step-down", endpoint, f"--to={heir.name}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=load.bound(), check=False)
        assert done.returncode == 0, done.stderr
        assert cluster.wait_leader(other_than=load.leader, timeout=load.bound()) is heir
        load.writes_go_on()
        assert load.silence() < cluster.lease_seconds


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
