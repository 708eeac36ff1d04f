"""A stock control plane on the store: over TLS, two apiservers with leases in the store, events that expire."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness.api import Api
from harness.cluster import Cluster
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlaneOptions

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
EVENTS = "/api/v1/namespaces/default/events"
EVENT_TTL = 5.0


def test_kubectl_works(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "one", "--from-literal=a=b")
    assert cluster.kubectl.json("-n", namespace, "get", "configmap", "one")["data"] == {"a": "b"}


def test_controllers_work(cluster: Cluster, namespace: str) -> None:
    """A Deployment becomes a ReplicaSet becomes Pods: three controllers watching each other's writes."""
    cluster.kubectl("-n", namespace, "create", "deployment", "web", "--image=example.test/none:1", "--replicas=3")
    replicas = "jsonpath={.status.replicas}=3"
    cluster.kubectl("-n", namespace, "wait", f"--for={replicas}", "deployment/web", "--timeout=30s")
    assert len(cluster.kubectl.json("-n", namespace, "get", "pods")["items"]) == 3


def test_store_over_mutual_tls(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(ControlPlaneOptions(controllers=False), store_tls=True)
    assert cluster.store.url.startswith("https://")
    cluster.kubectl("create", "configmap", "secret", "--from-literal=a=b")
    assert cluster.kubectl.json("get", "configmap", "secret")["data"] == {"a": "b"}


@pytest.mark.parametrize("media_type", ["application/json", "application/vnd.kubernetes.protobuf"])
def test_storage_media_types(new_cluster: Callable[..., Cluster], media_type: str) -> None:
    """What is stored in one form is read by an apiserver that writes the other."""
    other = {"application/json": "application/vnd.kubernetes.protobuf"}.get(media_type, "application/json")
    servers = (
        ApiserverOptions(port=0, storage_media_type=media_type),
        ApiserverOptions(port=0, advertise_address="192.0.2.2", storage_media_type=other),
    )
    cluster = new_cluster(ControlPlaneOptions(apiservers=servers, controllers=False))
    writer, reader = cluster.api(0), cluster.api(1)
    body = {"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    services = "/api/v1/namespaces/default/services"
    made = writer.post(services, body)
    assert reader.get(f"{services}/svc")["spec"] == made["spec"]
    changed = reader.put(f"{services}/svc", {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}})
    assert writer.get(f"{services}/svc")["metadata"]["labels"] == changed["metadata"]["labels"] == {"x": "y"}
    writer.close()
    reader.close()


def addresses(slice_: dict[str, list[dict[str, list[str]]]]) -> set[str]:
    return {address for endpoint in slice_.get("endpoints") or [] for address in endpoint["addresses"]}


def test_a_killed_apiserver_leaves_the_endpoints(new_cluster: Callable[..., Cluster]) -> None:
    """Each apiserver keeps a lease (15 s) under masterleases; when one is killed, the other drops its address."""
    first, second = "192.0.2.1", "192.0.2.2"
    servers = tuple(ApiserverOptions(port=0, advertise_address=address) for address in (first, second))
    cluster = new_cluster(ControlPlaneOptions(apiservers=servers, controllers=False))
    api = cluster.api()
    wait_for_addresses(api, {first, second})
    cluster.plane.apiservers[1].kill()
    wait_for_addresses(api, {first})
    api.close()


def wait_for_addresses(api: Api, wanted: set[str]) -> None:
    """A watch without a version begins with what is there."""
    last: set[str] = set()
    for event in api.watch(SLICES, 60, fieldSelector="metadata.name=kubernetes"):
        last = addresses(event["object"])
        if last == wanted:
            return
    pytest.fail(f"the endpoints never became {wanted}: {last}")


def test_events_expire(new_cluster: Callable[..., Cluster]) -> None:
    """Events are written with a lease of the store; its end is a DELETED event for whoever watches."""
    server = ApiserverOptions(port=0, event_ttl=f"{EVENT_TTL:.0f}s", extra=("--lease-reuse-duration-seconds=1",))
    cluster = new_cluster(ControlPlaneOptions(apiservers=(server,), controllers=False))
    api = cluster.api()
    event = {
        "metadata": {"name": "short"},
        "involvedObject": {"kind": "ConfigMap", "name": "x", "namespace": "default"},
        "reason": "Tested",
    }
    began = time.monotonic()
    made = api.post(EVENTS, event)
    kept = api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "kept"}})
    version = made["metadata"]["resourceVersion"]
    seen = next(iter(api.watch(EVENTS, 40, fieldSelector="metadata.name=short", resourceVersion=version)))
    assert seen["type"] == "DELETED"
    assert time.monotonic() - began >= EVENT_TTL, "expired too early"
    assert int(seen["object"]["metadata"]["resourceVersion"]) > int(kept["metadata"]["resourceVersion"])
    assert api.ask("GET", f"{EVENTS}/short").status == 404
    assert api.get("/api/v1/namespaces/default/configmaps/kept")
    api.close()
