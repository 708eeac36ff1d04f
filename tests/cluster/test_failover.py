"""The store's leader is killed under a stock kube-apiserver, again and again: writers pause, watchers notice nothing.

Five hundred objects are in churn through an apiserver that has every node of the store in `--etcd-servers`. What must
hold: no informer lists again, and none sees a number missing, doubled or out of order; the apiserver does not list
again at the store (its own metric tells); a write that failed meanwhile succeeds when it is repeated; in the end the
apiserver and the informers agree on every object.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster.conftest import HasLogs
from harness.api import Api
from harness.churn import CONFIG_MAPS, LEASES, PODS, Churn, HasApi, churn
from harness.cluster import Cluster, kube_binaries
from harness.informers import Informers, Seen, informers
from harness.nodes import BrainCluster
from harness.store import server_command
from wharf.cli.kube.argv import EtcdAccess
from wharf.cli.kube.controlplane import ControlPlane, ControlPlaneOptions

NAMESPACE = "churn"
KINDS = (PODS, CONFIG_MAPS, LEASES)
COUNTS = {"pods": 200, "configmaps": 100, "leases": 200}
BETWEEN = 300  # acknowledged writes between two failovers
LONGEST_SECONDS = 30.0  # from the first try of a write to its acknowledgement, on a busy machine
ERRORS_PER_WRITER = 50  # and failover: one every tenth of a second while nobody leads
# Every ten seconds the apiserver lists who else serves, and every five minutes it proves its cache by a list.
_BY_THE_CLOCK = {"apiServerIPInfo"}
_LISTS = re.compile(
    r'^etcd_request_duration_seconds_count\{group="(.*)",operation="list",resource="(.*)"\} (\S+)', re.M
)
_PROOFS = re.compile(r'^apiserver_storage_consistency_checks_total\{group="(.*)",resource="(.*)",.*\} (\S+)', re.M)


@dataclass(frozen=True, slots=True)
class Listed:
    """How often the apiserver has listed each resource at the store so far, and how often to prove its cache."""

    lists: Counter[tuple[str, str]]
    proofs: Counter[tuple[str, str]]

    @classmethod
    def by(cls, cluster: HasApi) -> Listed:
        """As the apiserver counts it."""
        with cluster.api() as api:
            text = api.ask("GET", "/metrics").body["text"]
        lists, proofs = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for pattern, counts in ((_LISTS, lists), (_PROOFS, proofs)):
            for group, resource, count in pattern.findall(text):
                counts[group, resource] += int(float(count))
        return cls(lists, proofs)

    def again_since(self, before: Listed) -> Counter[tuple[str, str]]:
        """What it has listed since then although neither clock nor proof asked for it."""
        grown = self.lists - before.lists - (self.proofs - before.proofs)
        return Counter({name: count for name, count in grown.items() if name[1] not in _BY_THE_CLOCK})


@contextmanager
def watched_churn(cluster: HasApi, plane: ControlPlane) -> Iterator[tuple[Churn, Informers]]:
    """Objects in churn and informers on them; at the end of the block everything is judged."""
    with cluster.api() as api:
        api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        api.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
    with churn(cluster, NAMESPACE, COUNTS) as load, informers(plane.kubeconfig, NAMESPACE) as watchers:
        load.wait_for(BETWEEN)
        before = Listed.by(cluster)
        yield load, watchers
        load.finish()
        stored = {kind.name: load.check(kind) for kind in KINDS}
        seen = watchers.wait_for(lambda told: versions(told) == stored)
        for kind in KINDS:
            judge(seen[kind.name], stored[kind.name])
        assert not Listed.by(cluster).again_since(before), "the apiserver has listed again"


def versions(seen: dict[str, Seen]) -> dict[str, dict[str, str]]:
    return {kind: one.versions for kind, one in seen.items()}


def judge(seen: Seen, stored: dict[str, str]) -> None:
    """One informer: it listed once, saw every number, and holds what the apiserver lists."""
    assert seen.problems == (), f"{seen.found} problems"
    assert seen.lists == 1, "an informer has listed again"
    assert seen.versions == stored


def judge_errors(load: Churn, failovers: int) -> None:
    """Writes failed for a while at most, and only in ways that a client repeats."""
    errors = sum(load.failures.values())
    print(f"{failovers} failovers, {load.acknowledged} writes, longest {load.longest:.1f} s, {load.failures}")
    assert errors <= failovers * load.writers * ERRORS_PER_WRITER, load.failures
    assert load.longest < LONGEST_SECONDS
    assert all(text.startswith(("500 ", "503 ", "504 ", "429 ")) for text in load.failures), load.failures


@dataclass(frozen=True, slots=True)
class OnNodes:
    """A control plane on all nodes of a replicated store."""

    nodes: BrainCluster
    plane: ControlPlane

    def api(self, index: int = 0) -> Api:
        """A new client of an apiserver."""
        return Api(self.plane, index)

    def fail_over(self, how: str, load: Churn) -> None:
        """Have another node lead; if this one is gone, the others serve without it before it comes back."""
        leader = self.nodes.wait_leader()
        if how == "step down":
            control = f"--endpoint=http://127.0.0.1:{leader.control_port}"
            subprocess.run([*server_command("brain"), "step-down", control], check=True, capture_output=True)
            load.wait_for(BETWEEN)
            return
        if how == "kill":
            self.nodes.kill(leader)
        else:
            assert self.nodes.stop_node(leader) == 0
        load.wait_for(BETWEEN)
        self.nodes.start_node(leader)


@pytest.fixture
def on_nodes(tmp_path: Path, shown_on_failure: list[HasLogs]) -> Iterator[OnNodes]:
    """Three nodes and a stock apiserver, told of all of them."""
    with BrainCluster(tmp_path / "store", flags=()) as nodes:
        shown_on_failure.append(nodes)
        store = EtcdAccess(tuple(nodes.urls))
        plane = ControlPlane(tmp_path / "kube", kube_binaries(), store, ControlPlaneOptions(controllers=False))
        shown_on_failure.append(plane)
        plane.start()
        try:
            yield OnNodes(nodes, plane)
        finally:
            plane.stop()


def test_ten_leaders_are_lost(on_nodes: OnNodes) -> None:
    ways = ("kill", "stop", "kill", "step down", "kill") * 2
    with watched_churn(on_nodes, on_nodes.plane) as (load, _):
        for how in ways:
            on_nodes.fail_over(how, load)
        load.wait_for(BETWEEN)
    judge_errors(load, len(ways))


def test_a_lone_store_is_killed(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(ControlPlaneOptions(controllers=False))
    with watched_churn(cluster, cluster.plane) as (load, _):
        for _ in range(2):
            cluster.store.kill()
            cluster.store.start()
            load.wait_for(BETWEEN)
    judge_errors(load, 2)


def test_the_witnesses_notice(cluster: Cluster, namespace: str) -> None:
    """A number that nobody counted up to, and a list at the store that neither clock nor proof asked for."""
    path = LEASES.collection(namespace)
    with cluster.api() as api, informers(cluster.plane.kubeconfig, namespace) as watchers:
        before = Listed.by(cluster)
        api.post(path, LEASES.create("one", 0))
        for number in (1, 3):
            assert api.ask("PATCH", f"{path}/one", LEASES.change(number), "application/merge-patch+json").ok
        seen = watchers.wait_for(lambda told: told["leases"].found > 0)["leases"]
        assert seen.problems == ("updated one: number 3 after 1",)
        api.get(f"/api/v1/namespaces/{namespace}/events")  # of which there is no cache
        assert Listed.by(cluster).again_since(before) == {("", "events"): 1}
