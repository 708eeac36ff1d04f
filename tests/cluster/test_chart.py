"""The Helm chart against a real apiserver: its objects pass validation, a release can be upgraded and leaves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.cluster import Cluster
from wharf.cli.kube.build import build

CHART = Path(__file__).resolve().parents[2] / "charts" / "wharf"
Helm = Callable[..., str]
EMBEDDED = ("--set=brain.tls.secretName=brain-tls",)
REPLICATED = (
    *EMBEDDED,
    "--set=brain.mode=replicated",
    "--set=brain.replicated.existingSecret=brain-urls",
    "--set=brain.replicated.peerTls.secretName=brain-peer",
)


@pytest.fixture(scope="module")
def helm_program() -> Path:
    return build(["helm"])["helm"]


@pytest.fixture
def helm(cluster: Cluster, namespace: str, helm_program: Path, tmp_path: Path) -> Helm:
    """Helm in the test's namespace; AssertionError with its words when it refuses."""

    def run(*words: str) -> str:
        environment = {**os.environ, "HELM_CACHE_HOME": str(tmp_path), "HELM_CONFIG_HOME": str(tmp_path)}
        command = [str(helm_program), f"--kubeconfig={cluster.plane.kubeconfig}", f"--namespace={namespace}", *words]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_release_is_installed_upgraded_and_removed(cluster: Cluster, namespace: str, helm: Helm) -> None:
    helm("install", "store", str(CHART), *EMBEDDED)
    found = cluster.kubectl.json("-n", namespace, "get", "statefulset,service,networkpolicy,pdb,serviceaccount")
    names = {(one["kind"], one["metadata"]["name"]) for one in found["items"]}
    assert {
        ("StatefulSet", "store-brain"),
        ("Service", "store-brain"),
        ("Service", "store-brain-nodes"),
        ("NetworkPolicy", "store-brain"),
        ("PodDisruptionBudget", "store-brain"),
        ("ServiceAccount", "store-brain"),
    } <= names

    cluster.kubectl("-n", namespace, "wait", "--for=create", "pod/store-brain-0", "--timeout=60s")
    pod = cluster.kubectl.json("-n", namespace, "get", "pod", "store-brain-0")
    assert pod["spec"]["securityContext"]["runAsUser"] == 65532

    helm("upgrade", "store", str(CHART), *EMBEDDED, "--set=brain.logLevel=debug")
    assert json.loads(helm("list", "-o", "json"))[0]["revision"] == "2"
    helm("uninstall", "store")
    left = cluster.kubectl.json("-n", namespace, "get", "persistentvolumeclaim")
    assert [claim["metadata"]["name"] for claim in left["items"]] == ["data-store-brain-0"]


def test_a_replicated_release_is_installed_upgraded_and_removed(cluster: Cluster, namespace: str, helm: Helm) -> None:
    helm("install", "store", str(CHART), *REPLICATED)
    found = cluster.kubectl.json("-n", namespace, "get", "deployment,service,networkpolicy,pdb,serviceaccount")
    names = {(one["kind"], one["metadata"]["name"]) for one in found["items"]}
    assert {("Deployment", "store-brain"), ("Service", "store-brain"), ("PodDisruptionBudget", "store-brain")} <= names
    pods = ("-l", "app.kubernetes.io/component=brain")
    cluster.kubectl("-n", namespace, "wait", "--for=create", "pod", *pods, "--timeout=60s")
    spread = cluster.kubectl.json("-n", namespace, "get", "pods", *pods)["items"][0]["spec"][
        "topologySpreadConstraints"
    ]
    assert {one["topologyKey"] for one in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}

    helm("upgrade", "store", str(CHART), *REPLICATED, "--set=brain.replicas=5")
    helm("uninstall", "store")


def test_an_embedded_store_is_not_left_behind_by_a_change_of_mode(namespace: str, helm: Helm) -> None:
    helm("install", "store", str(CHART), *EMBEDDED)
    with pytest.raises(AssertionError, match=r"wharf brain import --from"):
        helm("upgrade", "store", str(CHART), *REPLICATED)
    helm("upgrade", "store", str(CHART), *REPLICATED, "--set=brain.replicated.acceptNewStore=true")
    helm("uninstall", "store")


@pytest.mark.parametrize(("values", "kind"), [(EMBEDDED, "statefulset"), (REPLICATED, "deployment")], ids=str)
def test_the_restricted_pod_security_level_admits_the_pod(
    cluster: Cluster, helm_program: Path, values: tuple[str, ...], kind: str
) -> None:
    """A namespace that enforces Kubernetes' strictest pod standard takes it without a warning."""
    namespace = f"restricted-{kind}"
    cluster.create_namespace(namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, level)
    words = ["template", "store", str(CHART), f"--namespace={namespace}", "--kube-version=1.36.3", *values]
    rendered = subprocess.run([helm_program, *words], capture_output=True, text=True, timeout=60, check=True).stdout
    cluster.kubectl("apply", "-f", "-", stdin=rendered)
    pods = ("pod", "-l", "app.kubernetes.io/component=brain")
    cluster.kubectl("-n", namespace, "wait", "--for=create", *pods, "--timeout=60s")
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
