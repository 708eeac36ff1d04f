"""A cluster moves from etcd to brain while it is written to, and its watchers go on from the versions they know."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.conftest import HasLogs
from harness.cluster import Cluster, kube_binaries
from harness.kubectl import Kubectl
from harness.load import config_maps, informer, writers
from harness.store import Store
from proofs.moving import Command, import_words
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlane, ControlPlaneOptions
from wharf.cli.kube.process import Process

PATH = config_maps("default")


@pytest.fixture
def cluster(tmp_path: Path, shown_on_failure: list[HasLogs]) -> Iterator[Cluster]:
    """A cluster on etcd whose apiserver hands watches to the store itself: a restarted watch cache makes clients list
    again by its own rules, whatever the store."""
    etcd = Store(tmp_path / "etcd", name="etcd")
    binaries = kube_binaries()
    server = ApiserverOptions(port=0, extra=("--watch-cache=false",))
    options = ControlPlaneOptions(apiservers=(server,), controllers=False)
    plane = ControlPlane(tmp_path / "kube", binaries, etcd.access, options)
    one = Cluster(etcd, plane, Kubectl(binaries["kubectl"], plane.kubeconfig))
    shown_on_failure.append(one)
    yield one.start()
    one.stop()


def successor(folder: Path, store: Store) -> Store:
    """A brain that will serve where `store` does."""
    brain = Store(folder, name="brain")
    words = [str(word).replace(brain.url, store.url) for word in brain.process.argv]
    brain.process = Process("brain", words, brain.process.log)
    brain.url, brain.access, brain.port = store.url, store.access, store.port
    return brain


def test_from_etcd_to_brain_without_a_relist(cluster: Cluster, tmp_path: Path) -> None:
    etcd, brain = cluster.store, successor(tmp_path / "brain", cluster.store)
    with cluster.api() as api:
        made = api.post(PATH, {"metadata": {"name": "kept"}, "data": {"a": "b"}})
    words = import_words(etcd.url, tmp_path / "brain" / "data")
    with writers(cluster, "default") as load, informer(cluster, PATH) as seen, Command(*words) as moving:
        load.wait_for(100)
        moving.wait_line("caught up")
        load.wait_for(100)
        cluster.plane.stop()
        code, printed = moving.end(signal.SIGINT)
        assert code == 0, printed
        etcd.stop()
        cluster.store = brain.start()
        cluster.plane.start()
        load.wait_for(100)
        load.finish()
        load.check()
        with cluster.api() as api:
            listed = {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in api.get(PATH)["items"]}
            assert api.get(f"{PATH}/kept")["metadata"] == made["metadata"]
        seen.wait_for(
            lambda objects: {name: one["metadata"]["resourceVersion"] for name, one in objects.items()} == listed
        )
    assert seen.problems == []
    assert seen.relists == 0
