"""Fault after fault for as long as it is given, in an order nobody chose; the seed is printed, to repeat it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.replicated.kit import Scenario, hold, scenario
from harness.nodes import BrainCluster, BrainNode

Fault = Callable[[BrainCluster, BrainNode, float], None]
_ROUND_FAULTS = 3  # in one recording: more, and the judgement takes longer than the load


def kill(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.kill(node)
    hold(seconds)
    cluster.start_node(node)


def terminate(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.stop_node(node)
    hold(seconds)
    cluster.start_node(node)


def freeze(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.freeze(node)
    hold(seconds)
    cluster.thaw(node)


def cut_off(*parts: str, way: str = "both") -> Fault:
    def fault(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
        cluster.partition(node, *parts, way=way)
        hold(seconds)
        cluster.heal()

    fault.__qualname__ = f"a partition ({way}) from {', '.join(parts)}"
    return fault


def restart_engine(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.postgres.stop("immediate")
    hold(seconds / 2)
    cluster.postgres.start()


def wipe_redis(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.redis.wipe()
    hold(seconds)


def restart_redis(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    cluster.redis.kill()
    hold(seconds)
    cluster.redis.start()


def restart_nats(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    assert cluster.nats is not None
    cluster.nats.kill()
    hold(seconds)
    cluster.nats.start()


def garble(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    for each in cluster.nodes:
        cluster.proxy.garble_nats(each.link("nats"), drop=0.1, duplicate=0.2, reorder=0.2)
    hold(seconds)
    for each in cluster.nodes:
        cluster.proxy.heal(each.link("nats"))
        cluster.proxy.reset(each.link("nats"))


def slow(cluster: BrainCluster, node: BrainNode, seconds: float) -> None:
    for part in ("redis", "engine", "control"):
        cluster.proxy.delay(node.link(part), 0.02)
    hold(seconds)
    cluster.heal()


FAULTS: tuple[Fault, ...] = (
    kill,
    kill,
    terminate,
    freeze,
    freeze,
    cut_off("redis"),
    cut_off("redis", way="down"),
    cut_off("nats"),
    cut_off("engine"),
    cut_off("engine", way="down"),
    cut_off("control"),
    cut_off("redis", "nats", "engine", "control"),
    restart_engine,
    wipe_redis,
    restart_redis,
    restart_nats,
    garble,
    slow,
)


def harm(load: Scenario, chance: random.Random) -> None:
    """One fault, of the leader more often than not."""
    cluster = load.cluster
    leader = cluster.wait_leader(timeout=load.bound())
    node = leader if chance.random() < 0.7 else chance.choice(cluster.nodes)
    fault, seconds = chance.choice(FAULTS), chance.uniform(0.1, 2.5) * cluster.lease_seconds
    print(f"{fault.__qualname__} of {node.name}, led by {leader.name}, for {seconds:.1f} s", flush=True)
    fault(cluster, node, seconds)


@pytest.mark.soak
def test_fault_after_fault(cluster: BrainCluster, tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    chance, end = random.Random(seed), time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "20"))
    turn = 0
    while time.monotonic() < end:
        turn += 1
        print(f"seed {seed}, round {turn}", flush=True)
        folder = tmp_path / f"{turn}"
        folder.mkdir()
        with scenario(cluster, folder) as load:
            for _ in range(_ROUND_FAULTS):
                harm(load, chance)
                load.writes_go_on()
