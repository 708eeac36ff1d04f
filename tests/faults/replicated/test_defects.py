"""The suite can fail: nodes with a defect built in are found out by the history they make.

Whether a defect shows depends on who asks what in a few milliseconds, so each is given several chances.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.replicated import defective
from faults.replicated.kit import Scenario, replace_leader_over_unanswered_batch, scenario
from harness.nodes import BrainCluster

CHANCES = 6


@contextmanager
def cluster_with(defect: Callable[[], None], folder: Path) -> Iterator[BrainCluster]:
    program = (sys.executable, str(Path(defective.__file__)), defect.__name__)
    with BrainCluster(folder / "cluster", program=program) as cluster:
        yield cluster


def found_out(
    defect: Callable[[], None], rule: str, folder: Path, harm: Callable[[Scenario], None], *, reads: bool = False
) -> None:
    """A history with `harm` done during it is rejected by `rule`, sooner or later."""
    with cluster_with(defect, folder) as cluster:
        for _ in range(CHANCES):
            rejected = ""
            try:
                with scenario(cluster, folder, leader_only_reads=reads) as load:
                    harm(load)
            except AssertionError as error:
                rejected = str(error)
            if rejected:
                break
    assert f"{rule}: " in rejected, f"{defect.__name__} was not found out"


def nothing(load: Scenario) -> None:
    load.writes_go_on(200)


def wipe_redis_behind_the_leaders_back(load: Scenario) -> None:
    load.cluster.partition(load.leader, "redis", "control")  # nor do its followers bring it a write that would tell it
    load.cluster.redis.wipe()
    load.cluster.wait_leader(other_than=load.leader, timeout=load.bound())
    load.writes_go_on()
    load.cluster.heal()


def cut_the_leader_off_from_redis(load: Scenario) -> None:
    load.cluster.partition(load.leader, "redis", "control")
    load.cluster.wait_leader(other_than=load.leader, timeout=load.bound())
    load.writes_go_on()
    load.cluster.kill(load.leader)
    load.cluster.heal()
    load.cluster.start_node(load.leader)


def lose_messages(load: Scenario) -> None:
    for node in load.cluster.nodes:
        load.cluster.proxy.garble_nats(node.link("nats"), drop=0.1)
    load.served()
    load.writes_go_on(200)


def test_followers_that_read_without_asking(tmp_path: Path) -> None:
    found_out(defective.followers_read_without_asking, "linearizable", tmp_path, nothing)


def test_successors_that_do_not_wait(tmp_path: Path) -> None:
    harm = wipe_redis_behind_the_leaders_back
    found_out(defective.successors_do_not_wait, "linearizable", tmp_path, harm, reads=True)


def test_replaced_leaders_that_do_not_read_the_log(tmp_path: Path) -> None:
    """Requests whose batch landed are executed twice."""
    found_out(defective.replaced_leaders_do_not_read_the_log, "log", tmp_path, replace_leader_over_unanswered_batch)


@pytest.mark.soak
def test_leaders_that_believe_for_ever(tmp_path: Path) -> None:
    found_out(defective.leases_never_end, "linearizable", tmp_path, cut_the_leader_off_from_redis, reads=True)


@pytest.mark.soak
def test_followers_that_pass_over_gaps(tmp_path: Path) -> None:
    found_out(defective.gaps_are_passed_over, "reliable", tmp_path, lose_messages)
