"""The store goes away and comes back, or compacts every few seconds, while the cluster is written to.

Nothing acknowledged is lost, and an informer sees a history it can believe.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness.cluster import Cluster
from harness.load import GONE, Informer, Writers, config_maps, informer, writers
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlaneOptions

NAMESPACE = "default"
PATH = config_maps(NAMESPACE)


def settled(load: Writers) -> Callable[[dict[str, dict[str, object]]], bool]:
    """True when an informer has what the apiserver answers now."""
    with load.cluster.api() as api:
        expected = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in api.get(PATH)["items"]}

    def same(objects: dict[str, dict[str, object]]) -> bool:
        return {name: one["metadata"]["resourceVersion"] for name, one in objects.items()} == expected  # type: ignore[index]

    return same


def verify(load: Writers, seen: Informer) -> None:
    load.check()
    seen.wait_for(settled(load))
    assert seen.problems == []


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("media_type", ["application/json", "application/vnd.kubernetes.protobuf"])
def test_store_restarts_under_load(new_cluster: Callable[..., Cluster], how: str, media_type: str) -> None:
    server = ApiserverOptions(port=0, storage_media_type=media_type)
    cluster = new_cluster(ControlPlaneOptions(apiservers=(server,)))
    # A controller-manager that is still building its controllers gives up on the first error; that is its own choice.
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    with writers(cluster, NAMESPACE) as load, informer(cluster, PATH) as seen:
        load.wait_for(100)
        for _ in range(2):
            getattr(cluster.store, how)()
            cluster.store.start()
            cluster.plane.wait_apiserver()
            load.wait_for(100)
        load.finish()
        verify(load, seen)
    assert all(process.running for process in cluster.plane.processes), "somebody gave up"
    cluster.kubectl("create", "deployment", "after", "--image=example.test/none:1")
    cluster.kubectl("wait", "--for=create", "pod", "-l", "app=after", "--timeout=60s")


def test_compaction_every_few_seconds_under_load(new_cluster: Callable[..., Cluster]) -> None:
    servers = tuple(
        ApiserverOptions(port=0, advertise_address=address, compaction_interval="2s", extra=extra)
        for address, extra in (("192.0.2.1", ()), ("192.0.2.2", ("--watch-cache=false",)))
    )
    cluster = new_cluster(ControlPlaneOptions(apiservers=servers, controllers=False))
    api = cluster.api(1)
    with writers(cluster, NAMESPACE) as load, informer(cluster, PATH) as cached, informer(cluster, PATH, 1) as direct:
        compactions = 0
        old = api.get(PATH, limit=1)["metadata"]["resourceVersion"]
        while compactions < 3:
            load.wait_for(50)
            probe = api.ask("GET", f"{PATH}?limit=1&resourceVersion={old}&resourceVersionMatch=Exact")
            if probe.status == GONE:
                compactions += 1
                old = api.get(PATH, limit=1)["metadata"]["resourceVersion"]
        load.finish()
        verify(load, cached)
        verify(load, direct)
    api.close()


def test_apiserver_restarts_on_the_same_store(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(ControlPlaneOptions(controllers=False))
    api = cluster.api()
    made = api.post(PATH, {"metadata": {"name": "kept"}, "data": {"a": "b"}})
    api.close()
    cluster.plane.stop()
    cluster.plane.start()
    assert api.get(f"{PATH}/kept") == made | {"apiVersion": "v1", "kind": "ConfigMap"}
    api.close()
