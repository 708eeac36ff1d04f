"""Identity as a real kube-apiserver takes it: what our headers make of a request, and what its reviews tell."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
from cluster.conftest import ClusterFactory, _factory
from cryptography.hazmat.primitives.serialization import Encoding
from harness.cluster import Cluster
from wharf.cli.kube import credentials
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlaneOptions
from wharf.cli.kube.credentials import Identity
from wharf.common.clock import CLOCK
from wharf.common.kube.client import KubeClient, StatusError
from wharf.common.kube.kubeconfig import load_kubeconfig
from wharf.gateway.api.shapes import Authentication, TokenMode
from wharf.gateway.identity import front_proxy_headers, impersonation_headers
from wharf.gateway.impersonation import Access, accesses, effective_user
from wharf.gateway.review import AccessReviewer, ReviewUnavailable, TokenReviewer, taken_for
from wharf.gateway.user import ANONYMOUS, User
from wharf.gateway.x509 import certificate_user
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import Target, client_context
from wharf.wire.web import Headers

WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
QUESTION = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
JANE = User(
    "jané",
    ("dev", "a b", "system:authenticated"),
    "u-1",
    {"acme.com/project": ("x", "y z"), "Scopes": ("", "%41"), "under_score": ("1",)},
)
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: impersonator}
rules:
- {apiGroups: [""], resources: [users, groups, serviceaccounts], verbs: [impersonate]}
- {apiGroups: [authentication.k8s.io], resources: ["*"], verbs: [impersonate]}
"""
GATEWAY = Identity("gateway", "wharf-gateway", ("gateways",))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that reads the uid of front proxies, too, and lets our gateway's user impersonate and review."""
    for start in _factory(lambda: tmp_path_factory.mktemp("identity")):
        yield _prepared(start)


def _prepared(start: ClusterFactory) -> Cluster:
    reads_uid = ApiserverOptions(port=0, extra=("--requestheader-uid-headers=X-Remote-Uid",))
    cluster = start(ControlPlaneOptions(apiservers=(reads_uid,)))
    cluster.kubectl("apply", "-f", "-", stdin=ROLE)
    cluster.kubectl("-n", "default", "create", "serviceaccount", "robot")
    for role in ("impersonator", "system:auth-delegator"):
        name = f"gateway-{role.replace(':', '-')}"
        cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={role}", "--user=wharf-gateway")
    return cluster


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 120))


@contextlib.asynccontextmanager
async def client(home: Cluster, who: str, headers: Headers = (), protocol: Any = "auto") -> AsyncIterator[KubeClient]:
    """With the credential of "front-proxy", of "gateway", of another user by name, or of nobody."""
    files = home.plane.files
    access = load_kubeconfig(home.plane.kubeconfig)
    own = (b"", b"")
    if who:
        identity = GATEWAY if who == GATEWAY.name else Identity(who, who)
        gateway = credentials.client_pair(home.plane.pki, identity)
        pair = files.front_proxy_client if who == "front-proxy" else gateway
        own = (pair.cert.read_bytes(), pair.key.read_bytes())
    context = client_context(access.ca_pem, *own, protocol=protocol)
    pool = HttpPool(Target(access.host, access.port, context, protocol=protocol))
    try:
        yield KubeClient(lambda: pool, lambda: headers)
    finally:
        await pool.close()


async def whoami(one: KubeClient) -> User:
    info = (await one.create(WHOAMI, QUESTION))["status"]["userInfo"]
    extra = {key: tuple(values) for key, values in info.get("extra", {}).items()}
    return User(info["username"], tuple(info.get("groups", ())), info.get("uid", ""), extra)


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_05_a_front_proxy_names_the_very_same_user(home: Cluster, protocol: str) -> None:
    async def main() -> None:
        async with client(home, "front-proxy", front_proxy_headers(JANE), protocol) as one:
            assert await whoami(one) == JANE

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_05_impersonation_names_the_very_same_user(home: Cluster, protocol: str) -> None:
    async def main() -> None:
        async with client(home, "gateway", impersonation_headers(JANE), protocol) as one:
            assert await whoami(one) == JANE

    run(main())


def test_edge_04_anonymous_is_anonymous_either_way(home: Cluster) -> None:
    async def main() -> None:
        ways = {"front-proxy": front_proxy_headers(ANONYMOUS), "gateway": impersonation_headers(ANONYMOUS)}
        for who, headers in ways.items():
            async with client(home, who, headers) as one:
                with pytest.raises(StatusError, match='User "system:anonymous" cannot create') as refused:
                    await whoami(one)
                assert refused.value.status.code == 403

    run(main())


def test_edge_10_impersonation_behind_front_proxy_headers_is_authorised_for_the_real_user(home: Cluster) -> None:
    wanted = User("system:serviceaccount:default:robot")
    gateway = User("wharf-gateway", ("system:authenticated",))

    async def main() -> None:
        headers = front_proxy_headers(gateway) + impersonation_headers(wanted)
        async with client(home, "front-proxy", headers) as one:
            assert await whoami(one) == effective_user(wanted)
        headers = front_proxy_headers(User("jane")) + impersonation_headers(wanted)
        async with client(home, "front-proxy", headers) as one:
            with pytest.raises(StatusError, match='User "jane" cannot impersonate') as refused:
                await whoami(one)
            assert refused.value.status.code == 403

    run(main())


def test_edge_06_certificates_are_read_as_kube_apiserver_reads_them(home: Cluster) -> None:
    pair = credentials.client_pair(home.plane.pki, Identity("jane", "jane", ("ops", "dev")))

    async def main() -> None:
        access = load_kubeconfig(home.plane.kubeconfig)
        context = client_context(access.ca_pem, pair.cert.read_bytes(), pair.key.read_bytes())
        pool = HttpPool(Target(access.host, access.port, context))
        ours = certificate_user(pair.load_cert().public_bytes(Encoding.DER)).user
        assert await whoami(KubeClient(lambda: pool)) == ours
        await pool.close()

    run(main())


def test_edge_03_it_shows_whether_a_server_believes_the_headers(home: Cluster) -> None:
    """Our certificate, but not trusted as a front proxy: the headers are ignored, everybody would be the gateway."""

    async def main() -> None:
        async with client(home, "front-proxy", front_proxy_headers(JANE)) as one:
            assert await taken_for(one) == JANE.name
        async with client(home, "gateway", front_proxy_headers(JANE)) as one:
            assert await taken_for(one) == "wharf-gateway"
        async with client(home, "", front_proxy_headers(JANE)) as one:
            with pytest.raises(ReviewUnavailable):
                await taken_for(one)

    run(main())


def test_edge_08_why_tokens_never_meet_the_gateways_credential(home: Cluster) -> None:
    """kube-apiserver looks at certificates first: the same token, with the gateway's certificate, is the gateway."""
    token = home.kubectl("-n", "default", "create", "token", "robot").strip()
    headers = ((b"authorization", b"Bearer " + token.encode()),)

    async def main() -> None:
        async with client(home, "", headers) as one:
            assert (await whoami(one)).name == "system:serviceaccount:default:robot"
        async with client(home, "gateway", headers) as one:
            assert (await whoami(one)).name == "wharf-gateway"

    run(main())


def test_edge_08_a_reviewed_token_is_the_user_the_apiserver_knows(home: Cluster) -> None:
    token = home.kubectl("-n", "default", "create", "token", "robot").strip()

    async def main() -> None:
        settings = Authentication(tokens=TokenMode.REVIEW)
        async with client(home, "", ((b"authorization", b"Bearer " + token.encode()),)) as one:
            expected = await whoami(one)
        async with client(home, "gateway") as one:
            reviewer = TokenReviewer(one, settings, CLOCK)
            assert await reviewer.review(token) == expected
            assert reviewer.remembered(token) == (expected,)
            assert await reviewer.review("junk") is None
            other = TokenReviewer(one, Authentication(audiences=("elsewhere",)), CLOCK)
            assert await other.review(token) is None
        async with client(home, "") as one:  # nobody may ask
            with pytest.raises(ReviewUnavailable):
                await TokenReviewer(one, settings, CLOCK).review(token)

    run(main())


def test_edge_10_rights_are_those_that_the_apiserver_would_ask_for(home: Cluster) -> None:
    async def main() -> None:
        async with client(home, "gateway") as one:
            rights = AccessReviewer(one, CLOCK)
            for access in accesses(JANE):
                assert await rights.allows(User("wharf-gateway"), access)
                assert not await rights.allows(User("jane", ("dev",)), access)
            assert await rights.allows(User("x", ("system:masters",)), Access("users", "y"))

    run(main())
