"""What users do with objects: custom kinds, finalizers, server-side apply, watching with kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from harness.cluster import Cluster
from harness.kubectl import KubectlError
from wharf.cli.kube.process import Process

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "ships.harbour.test"},
    "spec": {
        "group": "harbour.test",
        "scope": "Namespaced",
        "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "shortNames": ["sh"]},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": version == "v1",
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer", "minimum": 1, "default": 3}},
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
            for version in ("v1alpha1", "v1")
        ],
    },
}


@pytest.fixture
def ships(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/ships.harbour.test", "--timeout=30s")
    yield
    cluster.kubectl("delete", "crd", "ships.harbour.test", "--ignore-not-found", "--timeout=60s")


def ship(name: str, **spec: object) -> str:
    body = {"apiVersion": "harbour.test/v1", "kind": "Ship", "metadata": {"name": name}, "spec": spec}
    return json.dumps(body)


def test_custom_resources(cluster: Cluster, namespace: str, ships: None) -> None:
    kubectl, here = cluster.kubectl, ("-n", namespace)
    kubectl(*here, "create", "-f", "-", stdin=ship("one"))
    kubectl(*here, "apply", "-f", "-", stdin=ship("two", size=7))
    with pytest.raises(KubectlError, match="should be greater than or equal to 1"):
        kubectl(*here, "create", "-f", "-", stdin=ship("three", size=0))
    kubectl(*here, "patch", "sh", "one", "--subresource=status", "--type=merge", "-p", '{"status":{"size":2}}')
    kubectl(*here, "scale", "--replicas=9", "ship/one")
    one = kubectl.json(*here, "get", "ships.v1alpha1.harbour.test", "one")
    assert (one["apiVersion"], one["spec"], one["status"]) == ("harbour.test/v1alpha1", {"size": 9}, {"size": 2})
    assert kubectl(*here, "get", "ships", "--no-headers", "-o", "custom-columns=N:.metadata.name").split() == [
        "one",
        "two",
    ]


def test_deleting_a_definition_deletes_its_objects(cluster: Cluster, namespace: str, ships: None) -> None:
    kubectl, here = cluster.kubectl, ("-n", namespace)
    kubectl(*here, "create", "-f", "-", stdin=ship("one"))
    kubectl("delete", "crd", "ships.harbour.test", "--timeout=60s")
    kubectl("create", "-f", "-", stdin=json.dumps(CRD))
    kubectl("wait", "--for=condition=Established", "crd/ships.harbour.test", "--timeout=30s")
    assert kubectl.json(*here, "get", "ships")["items"] == []


def test_namespace_waits_for_finalizers(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    cluster.create_namespace("finalizers")
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["wharf.test/hold"]}}
    kubectl("-n", "finalizers", "create", "-f", "-", stdin=json.dumps(held))
    for name in ("a", "b", "c"):
        kubectl("-n", "finalizers", "create", "configmap", name)
    kubectl("delete", "namespace", "finalizers", "--wait=false")
    kubectl("wait", "--for=condition=NamespaceFinalizersRemaining", "namespace/finalizers", "--timeout=30s")
    left = kubectl.json("-n", "finalizers", "get", "configmaps")["items"]
    assert [item["metadata"]["name"] for item in left] == ["held"]
    with pytest.raises(KubectlError, match="being terminated"):
        kubectl("-n", "finalizers", "create", "configmap", "late")
    kubectl("-n", "finalizers", "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", "--for=delete", "namespace/finalizers", "--timeout=60s")


def applied(**data: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data})


def test_server_side_apply(cluster: Cluster, namespace: str) -> None:
    def apply(manager: str, manifest: str, *extra: str) -> None:
        words = ("-n", namespace, "apply", "--server-side", f"--field-manager={manager}", *extra, "-f", "-")
        cluster.kubectl(*words, stdin=manifest)

    def data() -> dict[str, str]:
        return dict(cluster.kubectl.json("-n", namespace, "get", "configmap", "shared").get("data", {}))

    apply("alice", applied(a="1", both="alice"))
    apply("bob", applied(b="2"))
    assert data() == {"a": "1", "b": "2", "both": "alice"}
    with pytest.raises(KubectlError, match='conflict with "alice"'):
        apply("bob", applied(b="2", both="bob"))
    apply("bob", applied(b="2", both="bob"), "--force-conflicts")
    apply("alice", applied())
    assert data() == {"b": "2", "both": "bob"}


def test_optimistic_concurrency(cluster: Cluster, namespace: str) -> None:
    api = cluster.api()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = api.post(path, {"metadata": {"name": "contended"}})
    api.put(f"{path}/contended", {**first, "data": {"a": "1"}})
    late = api.ask("PUT", f"{path}/contended", {**first, "data": {"a": "2"}})
    assert (late.status, late.body["reason"]) == (409, "Conflict")
    again = api.ask("POST", path, {"metadata": {"name": "contended"}})
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")
    precondition = {"preconditions": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    assert api.ask("DELETE", f"{path}/contended", precondition).status == 409
    api.delete(f"{path}/contended")
    api.close()


def test_kubectl_get_watch(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    kubectl = cluster.kubectl
    kubectl("-n", namespace, "create", "configmap", "before")
    words = ["-n", namespace, "get", "configmaps", "-w", "--output-watch-events", "--no-headers"]
    watch = Process("kubectl-watch", [*kubectl.command, *words], tmp_path / "watch.log").start()
    try:
        watch.wait_logged("before", 20)
        kubectl("-n", namespace, "create", "configmap", "watched")
        watch.wait_ready(lambda: seen(watch, "ADDED", "watched"), 20)
        kubectl("-n", namespace, "patch", "configmap", "watched", "-p", '{"data":{"a":"b"}}')
        watch.wait_ready(lambda: seen(watch, "MODIFIED", "watched"), 20)
        kubectl("-n", namespace, "delete", "configmap", "watched")
        watch.wait_ready(lambda: seen(watch, "DELETED", "watched"), 20)
        assert [line.split()[0] for line in watch.output().splitlines() if " watched " in line] == [
            "ADDED",
            "MODIFIED",
            "DELETED",
        ]
    finally:
        watch.stop()


def seen(watch: Process, kind: str, name: str) -> bool:
    return any(line.split()[:2] == [kind, name] for line in watch.output().splitlines())
