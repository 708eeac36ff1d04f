"""The Helm chart against a real apiserver: its objects pass validation, a release can be upgraded and leaves."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.cluster import Cluster
from wharf.cli.kube.build import build

CHART = Path(__file__).resolve().parents[2] / "charts" / "wharf"


@pytest.fixture(scope="module")
def helm_program() -> Path:
    return build(["helm"])["helm"]


def test_a_release_is_installed_upgraded_and_removed(
    cluster: Cluster, namespace: str, helm_program: Path, tmp_path: Path
) -> None:
    def helm(*words: str) -> str:
        environment = {**os.environ, "HELM_CACHE_HOME": str(tmp_path), "HELM_CONFIG_HOME": str(tmp_path)}
        command = [str(helm_program), f"--kubeconfig={cluster.plane.kubeconfig}", f"--namespace={namespace}", *words]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    secret = ("--set", "brain.tls.secretName=brain-tls")
    helm("install", "store", str(CHART), *secret)
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

    helm("upgrade", "store", str(CHART), *secret, "--set", "brain.logLevel=debug")
    assert json.loads(helm("list", "-o", "json"))[0]["revision"] == "2"
    helm("uninstall", "store")
    left = cluster.kubectl.json("-n", namespace, "get", "persistentvolumeclaim")
    assert [claim["metadata"]["name"] for claim in left["items"]] == ["data-store-brain-0"]


def test_the_restricted_pod_security_level_admits_the_pod(cluster: Cluster, helm_program: Path) -> None:
    """A namespace that enforces Kubernetes' strictest pod standard takes it without a warning."""
    cluster.create_namespace("chart-restricted")
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", "chart-restricted", level)
    words = ["template", "store", str(CHART), "--namespace=chart-restricted", "--kube-version=1.36.3"]
    words += ["--set=brain.tls.secretName=x"]
    rendered = subprocess.run([helm_program, *words], capture_output=True, text=True, timeout=60, check=True).stdout
    cluster.kubectl("apply", "-f", "-", stdin=rendered)
    cluster.kubectl("-n", "chart-restricted", "wait", "--for=create", "pod/store-brain-0", "--timeout=60s")
    cluster.kubectl("delete", "namespace", "chart-restricted", "--wait=false")
