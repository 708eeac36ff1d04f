"""The Helm chart against a real apiserver: its objects pass validation, a release can be upgraded and leaves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.crd import NAME, remove
from harness.kubectl import KubectlError
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
GATEWAY = ("--set=brain.enabled=false", "--set=gateway.enabled=true")
DOCUMENTS = (*GATEWAY, "--set=gateway.clusters.a.servers[0].url=https://a:6443", "--set=gateway.secrets={a}")


@pytest.fixture(scope="module")
def helm_program() -> Path:
    return build(["helm"])["helm"]


@pytest.fixture
def helm(cluster: Cluster, namespace: str, helm_program: Path, tmp_path: Path) -> Iterator[Helm]:
    """Helm in the test's namespace; AssertionError with its words when it refuses."""

    def run(*words: str) -> str:
        environment = {**os.environ, "HELM_CACHE_HOME": str(tmp_path), "HELM_CONFIG_HOME": str(tmp_path)}
        command = [str(helm_program), f"--kubeconfig={cluster.plane.kubeconfig}", f"--namespace={namespace}", *words]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    remove(cluster)  # Helm installs CRDs and never removes them


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
    assert cluster.kubectl.json("get", "crd", NAME)["kind"] == "CustomResourceDefinition"
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


def test_a_gateway_is_installed_upgraded_and_removed(cluster: Cluster, namespace: str, helm: Helm) -> None:
    grants = json.dumps({namespace: ["prod-a"]})
    pairs = (f"--set-json=gateway.rbac.secrets={grants}", '--set-json=gateway.rbac.endpointSlices=["default"]')
    told = helm("install", "front", str(CHART), *GATEWAY, *pairs, "--set=gateway.tls.secretName=listener")
    assert f"https://front-gateway.{namespace}.svc:443" in told
    assert "kubectl get upstreamclusters" in told
    assert "gateway.rbac" not in told
    kinds = "deployment,service,networkpolicy,pdb,serviceaccount,role,rolebinding"
    found = cluster.kubectl.json("-n", namespace, "get", kinds)
    names = {(one["kind"], one["metadata"]["name"]) for one in found["items"]}
    wide = f"front-gateway-{namespace}"
    assert {
        ("Deployment", "front-gateway"),
        ("Service", "front-gateway"),
        ("Service", "front-gateway-nodes"),
        ("NetworkPolicy", "front-gateway"),
        ("PodDisruptionBudget", "front-gateway"),
        ("ServiceAccount", "front-gateway"),
        ("Role", wide),
        ("RoleBinding", wide),
    } <= names

    scaling = "--set=gateway.autoscaling.enabled=true"
    helm("upgrade", "front", str(CHART), *GATEWAY, *pairs, scaling)
    scaled = cluster.kubectl.json("-n", namespace, "get", "horizontalpodautoscaler", "front-gateway")
    assert scaled["spec"]["scaleTargetRef"]["name"] == "front-gateway"
    helm("uninstall", "front")
    assert wide not in cluster.kubectl("get", "clusterrole,clusterrolebinding", "-o", "name")


def test_a_gateway_may_read_just_what_it_was_granted(cluster: Cluster, namespace: str, helm: Helm) -> None:
    grants = json.dumps({namespace: ["prod-a"]})
    pairs = (f"--set-json=gateway.rbac.secrets={grants}", '--set-json=gateway.rbac.endpointSlices=["default"]')
    helm("install", "front", str(CHART), *GATEWAY, *pairs)
    account = f"--as=system:serviceaccount:{namespace}:front-gateway"

    def may(*words: str) -> bool:
        try:
            cluster.kubectl(*words, account)
        except KubectlError as refused:
            if "Forbidden" not in str(refused):
                raise
            return False
        return True

    own, selected = ("-n", namespace), "--field-selector=metadata.name"
    cluster.kubectl(*own, "create", "secret", "generic", "prod-a")
    assert may("get", "upstreamclusters")
    assert may(*own, "get", "secrets", f"{selected}=prod-a")  # as it lists and watches them
    assert may(*own, "get", "secret", "prod-a")
    assert not may(*own, "get", "secrets")
    assert not may(*own, "get", "secrets", f"{selected}=prod-b")
    assert not may("-n", "kube-system", "get", "secrets", f"{selected}=prod-a")
    assert may("-n", "default", "get", "endpointslices")
    assert not may("-n", "kube-system", "get", "endpointslices")
    assert not may(*own, "get", "configmaps")
    helm("uninstall", "front")


@pytest.mark.parametrize(
    ("values", "component", "name"),
    [
        (EMBEDDED, "brain", "embedded"),
        (REPLICATED, "brain", "replicated"),
        (GATEWAY, "gateway", "gateway"),
        (DOCUMENTS, "gateway", "documents"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_restricted_pod_security_level_admits_the_pod(
    cluster: Cluster, helm_program: Path, values: tuple[str, ...], component: str, name: str
) -> None:
    """A namespace that enforces Kubernetes' strictest pod standard takes it without a warning."""
    namespace = f"restricted-{name}"
    cluster.create_namespace(namespace)
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, level)
    words = ["template", "store", str(CHART), f"--namespace={namespace}", "--kube-version=1.36.3", *values]
    rendered = subprocess.run([helm_program, *words], capture_output=True, text=True, timeout=60, check=True).stdout
    cluster.kubectl("apply", "-f", "-", stdin=rendered)
    pods = ("pod", "-l", f"app.kubernetes.io/component={component}")
    cluster.kubectl("-n", namespace, "wait", "--for=create", *pods, "--timeout=60s")
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")
