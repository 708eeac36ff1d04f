"""A stock control plane starts on the store in seconds, survives its own restart, and says so on its own terms."""

from __future__ import annotations

from harness.cluster import Cluster


def test_kubectl_works(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "one", "--from-literal=a=b")
    assert cluster.kubectl.json("-n", namespace, "get", "configmap", "one")["data"] == {"a": "b"}
