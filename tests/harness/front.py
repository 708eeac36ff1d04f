"""The chart's gateway on a real node, in front of the very kube-apiserver that the node belongs to.

The servers are found through the EndpointSlice of `default/kubernetes`. There is no DNS on the node: clients go to the
Service's address and ask for the cluster by name in the TLS handshake.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wharf.cli.kube.build import build
from wharf.cli.kube.pki import Authority

from harness.containers import ROOT
from harness.crd import remove
from harness.kubectl import Kubectl
from harness.node import Node

NAMESPACE = "kube-front"
NAME = "front-gateway"  # what the chart makes of the release "front"
CLUSTER = "home.wharf.test"
_SECRET = "home"
_VALUES = (
    *("brain.enabled=false", "gateway.enabled=true", "gateway.tls.secretName="),
    *("gateway.resources.requests.cpu=50m", "gateway.resources.requests.memory=64Mi"),
    *("gateway.drain.delaySeconds=3", "gateway.drain.watchesSeconds=1", "gateway.drain.timeoutSeconds=5"),
)


@dataclass
class Front:
    """One `helm install front charts/wharf`, and a kubectl that goes through it."""

    node: Node
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubectl: Kubectl = self.node.cluster.kubectl

    def prepare(self) -> None:
        """The namespace, and a Secret with everything the cluster's document refers to."""
        self.node.cluster.create_namespace(NAMESPACE)
        files = self.node.cluster.plane.files
        serving = Authority(self.node.cluster.plane.pki).server("gateway-front", (CLUSTER,))
        content = {
            "tls.crt": serving.cert,
            "tls.key": serving.key,
            "ca.crt": files.ca.cert,
            "front-proxy.crt": files.front_proxy_client.cert,
            "front-proxy.key": files.front_proxy_client.key,
        }
        pairs = [f"--from-file={key}={path}" for key, path in content.items()]
        self.kubectl("-n", NAMESPACE, "create", "secret", "generic", _SECRET, *pairs)

    def install(self, verb: str, *pairs: str) -> None:
        """`helm install` or `upgrade`; returns when its pods are ready and those before are on their way out.

        Helm itself waits for the new pods only; the controller takes the last of the old ones away after that.
        """
        grants = (
            f"--set-json=gateway.rbac.secrets={json.dumps({NAMESPACE: [_SECRET]})}",
            '--set-json=gateway.rbac.endpointSlices=["default"]',
        )
        values = [f"--set={pair}" for pair in (*_VALUES, *pairs)]
        self._helm(verb, "front", str(ROOT / "charts" / "wharf"), *values, *grants, "--wait", "--timeout=120s")
        self.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=60s")

    def serve(self) -> None:
        """The UpstreamCluster of the node's own cluster; returns when the gateway says that it is served."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(_document()))
        self.kubectl("wait", "--for=condition=Ready", f"upstreamcluster/{CLUSTER}", "--timeout=60s")

    def through(self, *words: str) -> str:
        """kubectl on the node, as the administrator, through the gateway. AssertionError with its words."""
        address = self.kubectl.json("-n", NAMESPACE, "get", "service", NAME)["spec"]["clusterIP"]
        way = (f"--server=https://{address}", f"--tls-server-name={CLUSTER}", "--request-timeout=20s")
        command = self.node.sandbox.enter(*self.kubectl.command, *way, *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def pods(self) -> set[str]:
        """The gateway's pods that are not on their way out."""
        listed = self.kubectl.json("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=gateway")["items"]
        return {pod["metadata"]["name"] for pod in listed if "deletionTimestamp" not in pod["metadata"]}

    def remove(self) -> None:
        """Everything, the CRD too: the cluster is shared."""
        self._helm("uninstall", "front", "--wait")
        remove(self.node.cluster)
        self.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")

    def logs(self) -> str:
        """What pods look like and last said, for people."""
        place = ("-n", NAMESPACE)
        return "\n".join(
            (
                self.kubectl(*place, "get", "pods", "-o", "wide"),
                self.kubectl(*place, "get", "events"),
                self.kubectl(*place, "logs", "--tail=30", "--prefix", "-l", "app.kubernetes.io/component=gateway"),
            )
        )

    def _helm(self, *words: str) -> None:
        home = {**os.environ, "HELM_CACHE_HOME": str(self.folder), "HELM_CONFIG_HOME": str(self.folder)}
        program = str(build(["helm"])["helm"])
        command = [program, f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={NAMESPACE}", *words]
        done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"helm {words[0]}: {done.stderr}\n{self.logs()}"


def _document() -> dict[str, Any]:
    def entry(key: str) -> dict[str, Any]:
        return {"secretRef": {"namespace": NAMESPACE, "name": _SECRET, "key": key}}

    return {
        "apiVersion": "proxy.wharf.dev/v1alpha1",
        "kind": "UpstreamCluster",
        "metadata": {"name": CLUSTER},
        "spec": {
            "discovery": {"service": {"namespace": "default", "name": "kubernetes"}},
            "serving": {"certificate": entry("tls.crt"), "key": entry("tls.key"), "clientCA": entry("ca.crt")},
            "upstream": {
                "ca": entry("ca.crt"),
                "certificate": entry("front-proxy.crt"),
                "key": entry("front-proxy.key"),
            },
        },
    }
