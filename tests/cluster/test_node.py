"""A real node joins the control plane: pods run, talk, are entered, forwarded and upgraded, and outlive a killed store.

The tests are one story on one cluster, in file order. Where the machine cannot run containers the suite says what it
lacks and is skipped.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from harness.cluster import Cluster
from harness.images import GREETING, WEB
from harness.kubectl import KubectlError
from harness.node import NAME
from harness.sandbox import missing_requirements
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.process import Process

_LACKING = missing_requirements()
pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(bool(_LACKING), reason=f"this machine cannot run containers; it lacks: {', '.join(_LACKING)}"),
]
PAGE = "hello from a ConfigMap\n"

WEB_MANIFEST = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: pages}}
data: {{index.html: {json.dumps(PAGE)}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {WEB}
          ports: [{{name: http, containerPort: 80}}]
          readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
          volumeMounts: [{{name: pages, mountPath: /www}}]
      volumes: [{{name: pages, configMap: {{name: pages}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http}}]
"""


def ask_service(cluster: Cluster, service: str) -> str:
    """What a pod gets from a service's address: through kube-proxy's rules and the bridge."""
    address = cluster.kubectl.json("get", "service", service)["spec"]["clusterIP"]
    return cluster.kubectl("exec", "deploy/web", "--", "wget", "-qO-", f"http://{address}/")


def wait_service(cluster: Cluster, service: str, page: str) -> None:
    """Until every answer is this page: kube-proxy may send a request to a pod that is leaving for a second more."""
    deadline = time.monotonic() + 30
    while (answer := ask_service(cluster, service)) != page:
        assert time.monotonic() < deadline, answer


def test_deployment_service_and_config_map(node_cluster: Cluster) -> None:
    node_cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    node_cluster.kubectl("apply", "-f", "-", stdin=WEB_MANIFEST)
    node_cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    assert ask_service(node_cluster, "web") == PAGE


def test_exec_and_logs(node_cluster: Cluster) -> None:
    kubectl = node_cluster.kubectl
    assert kubectl("exec", "deploy/web", "--", "cat", "/www/index.html") == PAGE
    assert kubectl("exec", "-i", "deploy/web", "--", "cat", stdin="through and back") == "through and back"
    log = kubectl("logs", "-l", "app=web", "--tail=-1")
    assert "response:200" in log


def test_pods_have_a_token_and_reach_the_api(node_cluster: Cluster) -> None:
    """busybox cannot speak TLS well enough for the apiserver: the token is checked from outside, the way on its own."""
    path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    token = node_cluster.kubectl("exec", "deploy/web", "--", "cat", path)
    with node_cluster.api() as api:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == "system:serviceaccount:default:default"

    # Plain HTTP to the `kubernetes` Service: the apiserver itself answers, through kube-proxy, that it wants TLS.
    script = "exec wget -qO- http://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/"
    with pytest.raises(KubectlError, match="400 Bad Request"):
        node_cluster.kubectl("exec", "deploy/web", "--", "sh", "-c", script)


def test_port_forward(node_cluster: Cluster, tmp_path: Path) -> None:
    words = [*node_cluster.kubectl.command, "port-forward", "service/web", ":80"]
    forward = Process("port-forward", words, tmp_path / "forward.log").start()
    try:
        forward.wait_logged("Forwarding from 127.0.0.1", 20)
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.output())
        assert found is not None
        with closing(http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=10)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().read().decode() == PAGE
    finally:
        forward.stop()


def test_helm_installs_a_fresh_chart(node_cluster: Cluster, tmp_path: Path) -> None:
    helm = str(locate("helm", search_path=False, report=lambda _: None))
    config = f"--kubeconfig={node_cluster.plane.kubeconfig}"

    def run(*words: str) -> str:
        home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([helm, *words], cwd=tmp_path, env=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"helm {words}: {done.stderr}"
        return done.stdout

    run("create", "fresh")
    repository, _, tag = WEB.rpartition(":")
    image = ["--set", f"image.repository={repository},image.tag={tag}"]
    run("install", "mine", "fresh", config, *image, "--wait", "--timeout=120s")
    assert ask_service(node_cluster, "mine-fresh") == GREETING
    run("upgrade", "mine", "fresh", config, *image, "--set", "replicaCount=2", "--wait", "--timeout=120s")
    listed = json.loads(run("list", config, "-o", "json"))
    assert [(one["name"], one["revision"], one["status"]) for one in listed] == [("mine", "2", "deployed")]
    run("uninstall", "mine", config, "--wait")
    assert json.loads(run("list", config, "-o", "json")) == []


def test_everything_goes_on_after_the_store_is_killed(node_cluster: Cluster) -> None:
    kubectl = node_cluster.kubectl
    before = pods(node_cluster)
    node_cluster.store.kill()
    node_cluster.store.start()
    node_cluster.plane.wait_apiserver()
    assert ask_service(node_cluster, "web") == PAGE
    assert pods(node_cluster) == before, "pods were replaced or restarted"

    kubectl("scale", "deployment/web", "--replicas=3")
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    page = {"data": {"index.html": "changed\n"}}
    kubectl("patch", "configmap", "pages", "--type=merge", "-p", json.dumps(page))
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    wait_service(node_cluster, "web", "changed\n")
    kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=60s")


def pods(cluster: Cluster) -> dict[str, int]:
    """Pods and how often their container was restarted."""
    items = cluster.kubectl.json("get", "pods", "-l", "app=web")["items"]
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in items}


def test_deleted_pods_are_gone(node_cluster: Cluster) -> None:
    node_cluster.kubectl("delete", "-f", "-", "--timeout=60s", stdin=WEB_MANIFEST)
    node_cluster.kubectl("wait", "--for=delete", "pods", "--all", "--timeout=60s")
    assert node_cluster.kubectl.json("get", "pods")["items"] == []
