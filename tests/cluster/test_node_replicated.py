"""The chart's replicated mode for real: pods on a node, on PostgreSQL, Redis and NATS, and the leader taken away.

The tests are one story on one release, in file order.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from harness.containers import missing_tools, node_images
from harness.node import Node
from harness.release import NAME, NAMESPACE, Release
from harness.sandbox import missing_requirements

_LACKING = [*missing_requirements(), *missing_tools()]
pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(bool(_LACKING), reason=f"this machine cannot run containers; it lacks: {', '.join(_LACKING)}"),
]
FAILOVER_SECONDS = 60.0  # the leader's lease is three; the rest is for a slow machine
T = TypeVar("T")


@pytest.fixture(scope="module")
def release(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    node.import_images(node_images())
    release = Release(node, tmp_path_factory.mktemp("release"))
    release.prepare()
    release.install("install")
    yield release
    release.helm("uninstall", "store", "--wait")
    release.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def eventually(attempt: Callable[[], T]) -> T:
    """What `attempt` returns once it works: a program asked again until the failover is over."""
    deadline = time.monotonic() + FAILOVER_SECONDS
    while True:
        try:
            return attempt()
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def leader(release: Release) -> str:
    found = [name for name, leads in release.leaders().items() if leads]
    assert len(found) == 1, found
    return found[0]


def test_three_pods_of_which_one_leads(release: Release) -> None:
    assert len(release.pods()) == 3
    assert eventually(lambda: leader(release)) in release.pods()
    members = json.loads(release.etcdctl("member", "list", "--write-out=json"))["members"]
    assert {one["name"]: one["clientURLs"] for one in members} == {
        name: [f"https://{address}:2379"] for name, address in release.pods().items()
    }


def test_writes_and_reads_through_the_service(release: Release) -> None:
    release.etcdctl("put", "/before", "kept")
    assert release.etcdctl("get", "/before", "--print-value-only").strip() == "kept"


def test_a_leader_steps_down_when_asked(release: Release) -> None:
    before = eventually(lambda: leader(release))
    files = ("--cacert=/etc/wharf/peer/ca.crt", "--cert=/etc/wharf/peer/tls.crt", "--key=/etc/wharf/peer/tls.key")
    words = ("--endpoint=https://127.0.0.1:2380", f"--server-name={NAME}-nodes.{NAMESPACE}.svc", *files)
    release.kubectl("-n", NAMESPACE, "exec", before, "--", "wharf", "brain", "step-down", *words)
    assert eventually(lambda: leader(release)) != before
    release.etcdctl("put", "/stepped", "down")


def test_deleting_the_leader_hands_over(release: Release) -> None:
    """Writes go on all the while the pod goes; each is asked once."""
    gone = eventually(lambda: leader(release))
    release.kubectl("-n", NAMESPACE, "delete", "pod", gone, "--wait=false")
    count = 0
    while release.kubectl("-n", NAMESPACE, "get", "pod", gone, "--ignore-not-found", "-o", "name"):
        release.etcdctl("put", "/while", str(count))
        count += 1
    assert count > 0
    assert release.etcdctl("get", "/while", "--print-value-only").strip() == str(count - 1)
    assert eventually(lambda: leader(release)) != gone


def test_killing_the_leader_is_a_pause(release: Release) -> None:
    """No word to anybody: the lease has to run out. The node starts the container again."""
    killed = eventually(lambda: leader(release))
    status = release.kubectl.json("-n", NAMESPACE, "get", "pod", killed)["status"]
    release.node.kill_container(status["containerStatuses"][0]["containerID"])
    eventually(lambda: release.etcdctl("put", "/after", "killed"))
    assert release.etcdctl("get", "/after", "--print-value-only").strip() == "killed"
    assert release.etcdctl("get", "/before", "--print-value-only").strip() == "kept"


def test_an_upgrade_replaces_every_pod_and_loses_nothing(release: Release) -> None:
    release.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=60s")
    before = set(release.pods())
    release.install("upgrade", "brain.logLevel=debug")
    assert not before & set(release.pods())
    assert release.etcdctl("get", "/before", "--print-value-only").strip() == "kept"
    assert eventually(lambda: leader(release)) in release.pods()


def test_the_control_port_takes_brains_only(release: Release) -> None:
    """TLS 1.2, because there the client learns in the handshake that it is refused."""
    address = next(iter(release.pods().values()))
    peer, client = release.peer_pair(), release.client_pair()

    def shakes_hands(*certificate: str) -> bool:
        words = ["openssl", "s_client", "-connect", f"{address}:2380", "-alpn", "h2", "-tls1_2", *certificate]
        command = release.node.sandbox.enter(*words)
        return subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False).returncode == 0

    assert shakes_hands("-cert", str(peer.cert), "-key", str(peer.key))
    assert not shakes_hands()
    assert not shakes_hands("-cert", str(client.cert), "-key", str(client.key))
