"""Streams to a real kubelet through the gateway: exec, attach, cp, logs -f and port-forward, by SPDY and by WebSocket.

A pod shows what arrives in it; kubectl shows what comes back. Half-closed streams, exit codes and big copies must be as
they are without a gateway.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import HasLogs
from harness.api import Json
from harness.gateway import Gateway, upstream_cluster
from harness.images import GREETING, WEB
from harness.kubectl import Kubectl
from harness.node import Node
from harness.sandbox import missing_requirements
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.process import Process
from wharf.cli.kube.recipes import OLD_KUBECTL

_LACKING = missing_requirements()
pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(bool(_LACKING), reason=f"this machine cannot run containers; it lacks: {', '.join(_LACKING)}"),
]
CLUSTER, ADDRESS = "node.test", "127.0.0.3"
SPACE = "streams"
_WAIT = 60.0
_LOOK_AGAIN = 0.05
# The main process of `tool` prints what is put into /tmp/say, and echoes what an attached client types.
_SAYS = "while :; do if [ -e /tmp/say ]; then cat /tmp/say; rm /tmp/say; fi; sleep 0.1; done"
_ECHOES = 'while read line; do echo "heard $line"; done'
PODS: list[dict[str, Any]] = [
    {"name": "tool", "command": ["sh", "-c", _SAYS]},
    {"name": "ear", "command": ["sh", "-c", _ECHOES], "stdin": True},
    {"name": "page"},
]


def manifest() -> str:
    items = []
    for pod in PODS:
        container = {"image": WEB, **pod}
        spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
        items.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["name"]}, "spec": spec})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture(scope="module")
def gateway(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """In front of the node's apiserver; the pods run."""
    plane = node.cluster.plane
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), {CLUSTER: ADDRESS})
    gateway.put(upstream_cluster(CLUSTER, plane, ADDRESS, logging={"access": True}))
    with gateway:
        node.cluster.create_namespace(SPACE)
        kubectl = Kubectl(node.cluster.kubectl.binary, gateway.kubeconfig(CLUSTER, plane))
        in_space = f"--namespace={SPACE}"
        kubectl(in_space, "apply", "-f", "-", stdin=manifest())
        kubectl(in_space, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=120s")
        yield gateway
        kubectl("delete", "namespace", SPACE, "--timeout=60s")


@pytest.fixture(autouse=True)
def _told(gateway: Gateway, shown_on_failure: list[HasLogs]) -> None:
    shown_on_failure.append(gateway)


@pytest.fixture(params=["websocket", "spdy", "old kubectl"])
def kubectl(request: pytest.FixtureRequest, node: Node, gateway: Gateway) -> Kubectl:
    """Through the gateway, by one of the protocols."""
    binary = node.cluster.kubectl.binary
    if request.param == "old kubectl":
        binary = locate(OLD_KUBECTL, search_path=False, report=lambda _: None)
    told = str(request.param != "spdy").lower()
    return Kubectl(
        binary,
        gateway.kubeconfig(CLUSTER, node.cluster.plane),
        {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": told, "KUBECTL_PORT_FORWARD_WEBSOCKETS": told},
    )


def words(kubectl: Kubectl, *others: str) -> list[str]:
    return [*kubectl.command, f"--namespace={SPACE}", *others]


def run(kubectl: Kubectl, *others: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """kubectl with bytes in and out."""
    return subprocess.run(
        words(kubectl, *others),
        input=stdin,
        capture_output=True,
        timeout=_WAIT,
        check=False,
        env=_environment(kubectl),
    )


def _environment(kubectl: Kubectl) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(kubectl.kubeconfig.parent), **kubectl.environment}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def until(condition: Callable[[], bool], what: str) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + _WAIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(_LOOK_AGAIN)


@contextmanager
def background(kubectl: Kubectl, log: Path, *others: str) -> Iterator[Process]:
    process = Process(others[0], words(kubectl, *others), log, kubectl.environment).start()
    try:
        yield process
    finally:
        process.stop()


def test_exec_tells_output_errors_and_exit_code_apart(kubectl: Kubectl, gateway: Gateway) -> None:
    before = len(execs(gateway))
    done = run(kubectl, "exec", "tool", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.returncode) == (b"out\n", 7)
    assert done.stderr.decode().splitlines()[0] == "err"
    until(lambda: len(execs(gateway)) > before, "exec is not in the log")
    told = execs(gateway)[before]
    by_spdy = kubectl.environment["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] == "false"
    assert (told["method"], told["status"]) == ("POST" if by_spdy else "GET", 101)
    assert "echo" not in json.dumps(told), "a command's words are nobody else's business"


def execs(gateway: Gateway) -> list[Json]:
    """What the access log has of them so far."""
    return [one for one in gateway.accesses() if one.get("subresource") == "exec"]


def test_the_end_of_stdin_reaches_the_pod(kubectl: Kubectl) -> None:
    content = noise(3_000_000)
    done = run(kubectl, "exec", "-i", "tool", "--", "sha256sum", stdin=content)
    assert done.stdout.decode().split()[0] == digest(content), done.stderr
    assert done.returncode == 0


def put(kubectl: Kubectl, pod: str, path: str, content: bytes) -> None:
    """A file in a pod. The node itself may cut stdin short when nothing comes after `cat`, gateway or not."""
    done = run(kubectl, "exec", "-i", pod, "--", "sh", "-c", f"cat > {path}; sha256sum {path}", stdin=content)
    assert done.stdout.decode().split()[0] == digest(content), done.stderr


def test_much_output_arrives_whole(kubectl: Kubectl) -> None:
    content = noise(5_000_000)
    put(kubectl, "tool", "/tmp/much", content)
    assert digest(run(kubectl, "exec", "tool", "--", "cat", "/tmp/much").stdout) == digest(content)


def test_copies_are_intact_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (there / "below").mkdir(parents=True)
    files = {"one": noise(8_000_000), "below/two": noise(1000), "below/empty": b""}
    for name, content in files.items():
        (there / name).write_bytes(content)
    for others in (("cp", str(there), "tool:/tmp/copied"), ("cp", "tool:/tmp/copied", str(back))):
        done = run(kubectl, *others)
        assert done.returncode == 0, done.stderr
    assert {name: digest((back / name).read_bytes()) for name in files} == {
        name: digest(content) for name, content in files.items()
    }
    assert run(kubectl, "exec", "tool", "--", "rm", "-r", "/tmp/copied").returncode == 0


def test_logs_are_followed_line_by_line(kubectl: Kubectl, tmp_path: Path) -> None:
    with background(kubectl, tmp_path / "logs", "logs", "-f", "tool", "--tail=0") as logs:
        until(lambda: _say(kubectl, "ready") and "ready" in logs.output(), "nothing is followed")
        for line in ("first", "second"):
            assert _say(kubectl, line)
            logs.wait_logged(line, _WAIT)


def _say(kubectl: Kubectl, line: str) -> bool:
    return run(kubectl, "exec", "tool", "--", "sh", "-c", f"echo {line} > /tmp/say").returncode == 0


def test_attach_hears_and_is_heard(kubectl: Kubectl) -> None:
    """Whatever a line causes comes back while the stream goes on."""
    with subprocess.Popen(
        words(kubectl, "attach", "-i", "ear"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(kubectl)
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            for line in (b"hello\n", b"again\n"):
                child.stdin.write(line)
                child.stdin.flush()
                assert select.select([child.stdout], [], [], _WAIT)[0], "nothing comes back"
                assert child.stdout.readline() == b"heard " + line
        finally:
            child.kill()


def test_many_connections_go_through_one_port_forward(kubectl: Kubectl, tmp_path: Path) -> None:
    large = noise(4_000_000)
    put(kubectl, "page", "/www/large", large)
    with background(kubectl, tmp_path / "forward", "port-forward", "page", ":80") as forward:
        forward.wait_logged("Forwarding from 127.0.0.1", _WAIT)
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.output())
        assert found is not None
        port = int(found[1])
        with ThreadPoolExecutor(8) as pool:
            pages = list(pool.map(lambda _: _fetch(port, "/"), range(16)))
            assert pages == [GREETING.encode()] * 16
            assert {digest(page) for page in pool.map(lambda _: _fetch(port, "/large"), range(3))} == {digest(large)}


def _fetch(port: int, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def test_a_token_is_enough_for_exec(kubectl: Kubectl, node: Node, gateway: Gateway) -> None:
    direct, in_space = node.cluster.kubectl, f"--namespace={SPACE}"
    if not direct(in_space, "get", "serviceaccounts", "robot", "--ignore-not-found"):
        direct(in_space, "create", "serviceaccount", "robot")
        direct(in_space, "create", "rolebinding", "robot", "--clusterrole=edit", f"--serviceaccount={SPACE}:robot")
    token = direct(in_space, "create", "token", "robot").strip()
    robot = replace(kubectl, kubeconfig=gateway.token_kubeconfig(CLUSTER, node.cluster.plane, "robot", token))
    assert run(robot, "exec", "tool", "--", "echo", "by token").stdout == b"by token\n"


def test_a_stream_outlives_a_new_configuration_and_ends_with_its_client(
    kubectl: Kubectl, node: Node, gateway: Gateway, tmp_path: Path
) -> None:
    until(lambda: _streams(gateway) == 0, "streams of others are left")
    with background(kubectl, tmp_path / "exec", "exec", "tool", "--", "sh", "-c", _COUNTS) as stream:
        stream.wait_logged("tick 1", _WAIT)
        before = _changes(gateway)
        timeouts = {"head": 100 + before}  # another than the default and than those before
        changed = upstream_cluster(CLUSTER, node.cluster.plane, ADDRESS, logging={"access": True}, timeouts=timeouts)
        gateway.put(changed)
        until(lambda: _changes(gateway) > before, "the gateway does not take the new configuration")
        seen = stream.output().count("tick")
        until(lambda: stream.output().count("tick") > seen + 10, "the stream is dead")
        assert stream.running
        assert _streams(gateway) == 1
        stream.kill()
        until(lambda: _streams(gateway) == 0, "the stream is left behind")


_COUNTS = "i=0; while :; do i=$((i + 1)); echo tick $i; sleep 0.1; done"


def _changes(gateway: Gateway) -> int:
    return gateway.process.output().count("cluster changed")


def _streams(gateway: Gateway) -> float:
    return gateway.metric("wharf_gateway_server_streams_active", cluster=CLUSTER)
