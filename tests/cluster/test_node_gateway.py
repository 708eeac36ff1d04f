"""The chart's gateway for real: pods on a node, an UpstreamCluster with discovery, kubectl through it, pods replaced.

The tests are one story on one release, in file order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.containers import missing_tools, node_images
from harness.front import CLUSTER, NAME, NAMESPACE, Front
from harness.node import Node
from harness.sandbox import missing_requirements

_LACKING = [*missing_requirements(), *missing_tools()]
pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(bool(_LACKING), reason=f"this machine cannot run containers; it lacks: {', '.join(_LACKING)}"),
]


@pytest.fixture(scope="module")
def front(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    node.import_images(node_images())
    front = Front(node, tmp_path_factory.mktemp("front"))
    front.prepare()
    front.install("install")
    front.serve()
    yield front
    front.remove()


def test_the_apiserver_is_found_through_its_service(front: Front) -> None:
    status = front.kubectl.json("get", "upstreamcluster", CLUSTER)["status"]
    assert {one["type"]: one["status"] for one in status["conditions"]} == {"Accepted": "True", "Ready": "True"}
    address = front.node.cluster.plane.url.removeprefix("https://")
    for gateway in status["gateways"]:
        assert [(server["name"], server["healthy"]) for server in gateway["servers"]] == [(address, True)]


def test_the_apiserver_sees_who_asks(front: Front) -> None:
    words = ("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert front.through(*words) == "wharf-admin"


def test_exec_reaches_a_real_kubelet(front: Front) -> None:
    said = front.through("-n", NAMESPACE, "exec", f"deploy/{NAME}", "--", "wharf", "version")
    assert said.startswith("wharf ")


def test_requests_go_on_while_a_pod_is_replaced(front: Front) -> None:
    """Each is asked once."""
    gone = sorted(front.pods())[0]
    front.kubectl("-n", NAMESPACE, "delete", "pod", gone, "--wait=false")
    count = 0
    while front.kubectl("-n", NAMESPACE, "get", "pod", gone, "--ignore-not-found", "-o", "name"):
        front.through("get", "namespace", NAMESPACE, "-o", "name")
        count += 1
    assert count > 0
    front.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=60s")
    assert gone not in front.pods()


def test_an_upgrade_replaces_every_pod(front: Front) -> None:
    before = front.pods()
    front.install("upgrade", "gateway.logLevel=debug")
    assert not before & front.pods()
    assert front.through("get", "--raw=/readyz") == "ok"
