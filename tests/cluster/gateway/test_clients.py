"""Clients that are not kubectl: curl with both HTTP versions, kubernetes-asyncio, and what forgers would try."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
from cluster.gateway.conftest import ADDRESSES, ALICE, ONE, TWO, House
from harness.api import config_map
from kubernetes_asyncio import client, config, watch
from wharf.cli.kube.credentials import ADMIN, Identity, client_pair

VERSIONS = ("--http1.1", "--http2")
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
_WAIT = 60.0
T = TypeVar("T")


class Curl:
    """curl as a user of `one.test`, through the gateway by the cluster's name or straight to an apiserver."""

    def __init__(self, house: House, identity: Identity = ADMIN) -> None:
        plane = house.one.plane
        pair = client_pair(plane.pki, identity)
        self._words = ["curl", "-sS", "--cacert", str(plane.files.ca.cert), "--cert", str(pair.cert)]
        self._words += ["--key", str(pair.key), "--path-as-is", "--max-time", f"{_WAIT:.0f}"]
        self._words += ["--resolve", f"{ONE}:{house.gateway.port}:{ADDRESSES[ONE]}"]
        self.through, self.direct = f"https://{ONE}:{house.gateway.port}", plane.url

    def __call__(self, url: str, *flags: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run([*self._words, *flags, url], input=stdin, capture_output=True, check=False, timeout=_WAIT)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def status(self, url: str, *flags: str, stdin: bytes = b"") -> int:
        """Only the code of the answer."""
        return int(self(url, "-o", "/dev/null", "-w", "%{http_code}", *flags, stdin=stdin))


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_are_the_servers_byte_for_byte(house: House, version: str) -> None:
    curl = Curl(house)
    for path in ("/version", "/api/v1", "/apis", "/openapi/v3", "/api/v1/namespaces/default/services/kubernetes"):
        assert curl(curl.through + path, version) == curl(curl.direct + path)
    large = "/openapi/v2"
    through, direct = curl(curl.through + large, version), curl(curl.direct + large)
    assert len(direct) > 1_000_000
    assert hashlib.sha256(through).digest() == hashlib.sha256(direct).digest()


@pytest.mark.parametrize("version", VERSIONS)
def test_bodies_go_up_as_they_are_and_the_server_says_what_is_too_long(house: House, space: str, version: str) -> None:
    curl, collection = Curl(house), f"/api/v1/namespaces/{space}/configmaps"
    post = (version, "-X", "POST", "-H", "Content-Type: application/json", "--data-binary", "@-")
    fits = json.dumps(config_map(f"fits{version[6:].replace('.', '-')}", {"x": "y" * 900_000})).encode()
    assert curl.status(curl.through + collection, *post, stdin=fits) == http.client.CREATED
    chunked = json.dumps(config_map("chunked" + version[6:].replace(".", "-"), {"x": "z"})).encode()
    told = curl.status(curl.through + collection, *post, "-H", "Transfer-Encoding: chunked", stdin=chunked)
    assert told == http.client.CREATED
    if version == "--http1.1":  # over HTTP/2 curl 7.88 loses an answer that comes before it has sent everything
        long = json.dumps(config_map("long", {"x": "y" * 4_000_000})).encode()
        assert curl.status(curl.through + collection, *post, stdin=long) == http.client.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.parametrize("target", ["/api/v1/namespaces/a%2Fb", "/api//v1", "/api/v1/pods?b=1&a=2&b=", "/%61pi"])
def test_targets_reach_the_server_as_they_are(house: House, target: str) -> None:
    curl = Curl(house)
    for flags in (("--http1.1",), ("--http2",)):
        assert curl.status(curl.through + target, *flags) == curl.status(curl.direct + target)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "forged",
    [
        ("X-Remote-User: root", "X-Remote-Group: system:masters"),
        ("x-remote-user: root", "Connection: close, X-Remote-User"),
        ("X_Remote_User: root", "X_Remote_Group: system:masters"),
        ("X-Remote-Uid: 1", "X-Remote-Extra-Scopes: all"),
        ("X-Forwarded-Client-Cert: Subject=CN=root",),
        ("X-Remote-User: root", "Connection: impersonate-user"),
    ],
)
def test_nobody_says_who_they_are_by_themselves(house: House, version: str, forged: Sequence[str]) -> None:
    if version == "--http2":
        forged = [line for line in forged if not line.startswith("Connection")] or ["X-Remote-User: root"]
    curl = Curl(house, ALICE)
    headers = [word for line in forged for word in ("-H", line)]
    answer = curl(curl.through + WHOAMI, version, "-d", REVIEW, "-H", "Content-Type: application/json", *headers)
    info = json.loads(answer)["status"]["userInfo"]
    assert (info["username"], info["groups"]) == (ALICE.user, [*ALICE.groups, "system:authenticated"])
    assert "uid" not in info
    assert "Scopes" not in json.dumps(info)


def test_a_credential_that_the_connection_header_names_is_refused(house: House) -> None:
    curl = Curl(house, ALICE)
    forged = ("-H", "Connection: authorization, impersonate-user", "-H", "Content-Type: application/json")
    refused = json.loads(curl(curl.through + WHOAMI, "--http1.1", "-d", REVIEW, *forged))
    assert (refused["kind"], refused["code"]) == ("Status", http.client.BAD_REQUEST)
    assert "the Connection header names authorization" in refused["message"]


def test_a_connection_of_one_cluster_does_not_serve_the_other(house: House) -> None:
    """The certificate was verified for the first name: 421, and the client opens another connection."""
    plane = house.one.plane
    context = ssl.create_default_context(cafile=str(plane.files.ca.cert))
    context.load_cert_chain(plane.files.admin.cert, plane.files.admin.key)
    with closing(http.client.HTTPSConnection(ADDRESSES[ONE], house.gateway.port, context=context)) as connection:
        connection.request("GET", "/version", headers={"Host": TWO})
        answer = connection.getresponse()
        assert answer.status == http.client.MISDIRECTED_REQUEST
        assert json.loads(answer.read())["kind"] == "Status"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_shows_nothing_is_anonymous_to_the_server(house: House, version: str) -> None:
    words = ["curl", "-sS", version, "--cacert", str(house.one.plane.files.ca.cert)]
    done = subprocess.run([*words, house.gateway.url(ONE) + "/api/v1/pods"], capture_output=True, check=True)
    status = json.loads(done.stdout)
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert 'User "system:anonymous" cannot list' in status["message"]


def test_kubernetes_asyncio_lists_watches_and_writes(house: House, space: str) -> None:
    async def use(core: client.CoreV1Api) -> list[str]:
        listed = await core.list_namespaced_config_map(space)
        watching = asyncio.create_task(_until_deleted(core, space, listed.metadata.resource_version))
        created = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one"), data={"colour": "red"})
        await core.create_namespaced_config_map(space, created)
        await core.patch_namespaced_config_map("one", space, {"data": {"colour": "blue"}})
        await core.delete_namespaced_config_map("one", space)
        async with asyncio.timeout(_WAIT):
            return await watching

    assert _with_core(house.gateway.kubeconfig(ONE, house.one.plane), use) == ["ADDED", "MODIFIED", "DELETED"]


async def _until_deleted(core: client.CoreV1Api, space: str, version: str) -> list[str]:
    """What is said about `one` until it is gone."""
    seen: list[str] = []
    async with watch.Watch().stream(core.list_namespaced_config_map, space, resource_version=version) as stream:
        async for event in stream:
            if event["object"].metadata.name == "one":
                seen.append(event["type"])
            if event["type"] == "DELETED":
                break
    return seen


def test_kubernetes_asyncio_with_a_token(house: House, space: str) -> None:
    in_space = f"--namespace={space}"
    house.direct(in_space, "create", "serviceaccount", "robot")
    house.direct(in_space, "create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={space}:robot")
    token = house.direct(in_space, "create", "token", "robot").strip()

    async def use(core: client.CoreV1Api) -> int:
        with pytest.raises(client.ApiException, match="Forbidden"):
            await core.list_namespaced_secret(space)
        return len((await core.list_namespaced_pod(space)).items)

    assert _with_core(house.gateway.token_kubeconfig(ONE, house.one.plane, "robot", token), use) == 0


def _with_core(kubeconfig: Path, use: Callable[[client.CoreV1Api], Coroutine[None, None, T]]) -> T:
    """Run `use` with a client of this kubeconfig."""

    async def run() -> T:
        async with await config.new_client_from_config(config_file=str(kubeconfig)) as session:
            return await use(client.CoreV1Api(session))

    return asyncio.run(run())


def test_secrets_are_in_no_log(house: House) -> None:
    """After everything above: no key, no token, in nothing that the gateway has written."""
    written = house.gateway.process.output() + Path(house.gateway.access_log).read_text()
    assert not re.search(r"PRIVATE KEY|eyJ[\w-]{20}|[Bb]earer ", written)
