"""kubectl, this release and an old one, through the gateway: as if the apiserver were talked to directly."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cluster.gateway.conftest import ADDRESSES, ALICE, ONE, TWO, House
from harness.kubectl import Kubectl, KubectlError
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.credentials import ADMIN, Identity
from wharf.cli.kube.process import Process
from wharf.cli.kube.recipes import OLD_KUBECTL

_WAIT = 30.0
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: {colour}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: example.test/none:1}}]}}
"""


def whoami(kubectl: Kubectl, *flags: str) -> dict[str, Any]:
    """What the apiserver believes."""
    info: dict[str, Any] = kubectl.json("auth", "whoami", *flags)["status"]["userInfo"]
    return info


def old_kubectl(like: Kubectl) -> Kubectl:
    """The oldest kubectl that is supported here, with the same kubeconfig."""
    return Kubectl(locate(OLD_KUBECTL, search_path=False, report=lambda _: None), like.kubeconfig)


@pytest.mark.parametrize("release", ["current", "old"])
def test_objects_live_their_life(house: House, space: str, release: str) -> None:
    kubectl = house.through if release == "current" else old_kubectl(house.through)
    in_space = f"--namespace={space}"
    told = kubectl(in_space, "apply", "-f", "-", stdin=MANIFEST.format(colour="red"))
    assert told.splitlines() == ["configmap/settings created", "deployment.apps/web created"]
    told = kubectl(in_space, "apply", "-f", "-", stdin=MANIFEST.format(colour="blue"))
    assert told.splitlines() == ["configmap/settings configured", "deployment.apps/web unchanged"]
    assert kubectl.json(in_space, "get", "configmap", "settings")["data"] == {"colour": "blue"}
    told = kubectl(
        in_space, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST.format(colour="b")
    )
    assert "settings serverside-applied" in told

    kubectl(in_space, "wait", "--for=jsonpath={.status.replicas}=2", "deployment/web", "--timeout=60s")
    kubectl(in_space, "scale", "deployment/web", "--replicas=3")
    kubectl(in_space, "wait", "--for=jsonpath={.status.replicas}=3", "deployment/web", "--timeout=60s")
    kubectl(in_space, "patch", "configmap", "settings", "--type=json", '-p=[{"op":"remove","path":"/data/colour"}]')
    kubectl(in_space, "label", "configmap", "settings", "tier=front")
    assert "settings" in kubectl(in_space, "get", "configmaps", "-l", "tier=front", "-o", "wide")
    assert "FIELDS:" in kubectl("explain", "deployment.spec")
    assert "web" in kubectl(in_space, "describe", "deployment", "web")
    assert kubectl("get", "--raw", "/readyz") == "ok"

    kubectl(in_space, "delete", "-f", "-", "--timeout=60s", stdin=MANIFEST.format(colour="blue"))
    kubectl(in_space, "wait", "--for=delete", "pods", "--all", "--timeout=60s")
    with pytest.raises(KubectlError, match="NotFound"):
        kubectl(in_space, "get", "configmap", "settings")


def test_what_is_listed_is_the_same_with_and_without_the_gateway(house: House) -> None:
    for words in (("api-resources", "-o", "name"), ("get", "clusterroles", "-o", "name"), ("api-versions",)):
        assert house.through(*words).splitlines() == house.direct(*words).splitlines()


def test_a_watch_shows_what_happens_while_it_happens(house: House, space: str, tmp_path: Path) -> None:
    words = [*house.through.command, f"--namespace={space}", "get", "configmaps", "--watch", "-o", "name"]
    watch = Process("watch", words, tmp_path / "watch.log").start()
    try:
        watch.wait_logged("configmap/kube-root-ca.crt", _WAIT)
        for name in ("first", "second"):
            house.direct(f"--namespace={space}", "create", "configmap", name)
            watch.wait_logged(f"configmap/{name}", _WAIT)
    finally:
        watch.stop()


def test_a_certificate_says_who_asks(house: House) -> None:
    through, direct = whoami(house.kubectl(ALICE)), whoami(house.past(ALICE))
    assert (through["username"], through["groups"]) == (direct["username"], direct["groups"])
    assert through["username"] == ALICE.user
    assert through["groups"] == [*ALICE.groups, "system:authenticated"]


def test_a_user_whose_name_no_header_could_carry_as_it_is(house: House) -> None:
    strange = Identity("strange", "jürgen müller,\u00a0admin", ("größe", "a,b"))
    through, direct = whoami(house.kubectl(strange)), whoami(house.past(strange))
    assert (through["username"], through["groups"]) == (direct["username"], direct["groups"])


def test_a_token_says_who_asks(house: House, space: str) -> None:
    in_space = f"--namespace={space}"
    house.direct(in_space, "create", "serviceaccount", "robot")
    token = house.direct(in_space, "create", "token", "robot").strip()
    robot = house.with_token("robot", token)
    through = whoami(robot)
    assert through["username"] == f"system:serviceaccount:{space}:robot"
    assert through == whoami(house.with_token("robot", token, through=False))
    with pytest.raises(KubectlError, match="Forbidden"):
        robot(in_space, "get", "pods")
    house.direct(in_space, "create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={space}:robot")
    assert robot(in_space, "get", "pods") == ""
    assert token not in house.gateway.access_log.read_text()
    assert token not in house.gateway.process.output()


def test_a_token_that_is_not_one_is_refused_by_the_server(house: House) -> None:
    with pytest.raises(KubectlError, match=r"Unauthorized|must be logged in"):
        house.with_token("nobody", "no-such-token")("get", "pods")


def test_impersonation_is_authorised_for_who_asks(house: House) -> None:
    as_bob = ("--as=bob", "--as-group=builders", "--as-group=painters", "--as-uid=42")
    info = whoami(house.through, *as_bob)
    assert info == whoami(house.direct, *as_bob)
    assert (info["username"], info["uid"]) == ("bob", "42")
    with pytest.raises(KubectlError, match="Forbidden") as refused:
        house.kubectl(ALICE)("get", "--raw", "/api/v1/pods", *as_bob)
    with pytest.raises(KubectlError, match="Forbidden") as directly:
        house.past(ALICE)("get", "--raw", "/api/v1/pods", *as_bob)
    assert refused.value.stderr == directly.value.stderr
    with pytest.raises(KubectlError, match=r"Forbidden|forbidden"):
        house.through("get", "secrets", "-A", "--as=bob")


def test_a_certificate_of_one_cluster_is_nothing_in_the_other(house: House) -> None:
    two = house.kubectl(ADMIN, TWO)
    assert (
        two("get", "namespaces", "-o", "name").splitlines()
        == house.two.kubectl("get", "namespaces", "-o", "name").splitlines()
    )
    plane = house.one.plane
    context = ssl.create_default_context(cafile=str(house.two.plane.files.ca.cert))
    context.load_cert_chain(plane.files.admin.cert, plane.files.admin.key)
    address, port = ADDRESSES[TWO], house.gateway.port
    with (
        closing(http.client.HTTPSConnection(address, port, context=context, timeout=_WAIT)) as connection,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        _ask(connection)


def _ask(connection: http.client.HTTPSConnection) -> None:
    """Over TLS 1.3 a server's refusal of a certificate comes with the answer."""
    connection.request("GET", "/api/v1/namespaces")
    connection.getresponse()


@pytest.mark.parametrize("words", [("exec", "--", "true"), ("attach",), ("port-forward", ":80"), ("logs", "-c=x")])
def test_errors_of_streams_are_the_servers_own_words(house: House, space: str, words: tuple[str, ...]) -> None:
    """No node here: the apiserver refuses, and kubectl must be told so by the same answer."""
    house.direct(f"--namespace={space}", "run", "lonely", "--image=example.test/none:1")
    line = (f"--namespace={space}", words[0], "lonely", *words[1:])
    with pytest.raises(KubectlError) as through:
        house.through(*line)
    with pytest.raises(KubectlError) as direct:
        house.direct(*line)
    assert _anonymous(through.value.stderr) == _anonymous(direct.value.stderr)


def _anonymous(words: str) -> str:
    """Without what differs between two runs: addresses, times, process ids."""
    return re.sub(r"\d{2,}", "N", re.sub(r"127\.0\.0\.1:\d+", "HERE", words))


def test_gateway_tells_what_it_did(house: House) -> None:
    house.through("get", "configmaps", "-A")
    seen = [one for one in house.gateway.accesses() if one.get("resource") == "configmaps"]
    assert seen
    assert json.dumps(seen[-1]).count(ADMIN.user) >= 1
    assert house.gateway.health()[0] == 200
    assert ONE in house.gateway.health("/metrics")[1]
