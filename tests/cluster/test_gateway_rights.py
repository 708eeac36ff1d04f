"""The rights that docs/gateway.md gives the gateway in a cluster are needed and enough; how tokens may be spelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.test_gateway_identity import JANE, client, run, whoami
from harness.cluster import Cluster
from wharf.common.clock import CLOCK
from wharf.common.kube.client import StatusError
from wharf.common.kube.kubeconfig import load_kubeconfig
from wharf.gateway.api.shapes import Authentication, TokenMode
from wharf.gateway.bearer import bearer_token, canonical_token
from wharf.gateway.cluster.equipment import OWN_USER
from wharf.gateway.cluster.tokens import is_evidence
from wharf.gateway.identity import front_proxy_headers, impersonation_headers
from wharf.gateway.impersonation import Access
from wharf.gateway.review import AccessReviewer, ReviewUnavailable, TokenReviewer, taken_for
from wharf.gateway.user import User
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import Target, client_context

MANUAL = Path(__file__).parents[2] / "docs" / "gateway.md"
REVIEW = Authentication(tokens=TokenMode.REVIEW)
ROBOT = "system:serviceaccount:default:robot"
PATIENCE = 30.0  # seconds until the server's authorizer has seen a new role


def manifests(name: str) -> str:
    """The block of the manual that defines this ClusterRole."""
    blocks = [block.partition("```")[0] for block in MANUAL.read_text().split("```yaml\n")[1:]]
    (found,) = [
        block for block in blocks if any(names(one) == ("ClusterRole", name) for one in yaml.safe_load_all(block))
    ]
    return found


def names(one: dict[str, Any]) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


@pytest.fixture(scope="module")
def token(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("-n", "default", "create", "serviceaccount", "robot")
    yield cluster.kubectl("-n", "default", "create", "token", "robot").strip()
    cluster.kubectl("-n", "default", "delete", "serviceaccount", "robot")


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What is answered once rights that were just given are known to the server."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask()
            except (ReviewUnavailable, StatusError):
                await asyncio.sleep(0.05)


def test_a_front_proxy_reviews_tokens_with_the_rights_of_the_manual_and_probes_without(
    cluster: Cluster, token: str
) -> None:
    async def main() -> None:
        async with client(cluster, "front-proxy", front_proxy_headers(OWN_USER)) as one:
            assert await taken_for(one) == OWN_USER.name
            reviewer = TokenReviewer(one, REVIEW, CLOCK)
            with pytest.raises(
                ReviewUnavailable, match=r"lacks a right in this cluster: .*wharf-gateway.*tokenreviews"
            ):
                await reviewer.review(token)
            cluster.kubectl("apply", "-f", "-", stdin=manifests("wharf-gateway-reviews"))
            user = await eventually(lambda: reviewer.review(token))
            assert user.name == ROBOT
            assert await reviewer.review("junk") is None

    try:
        run(main())
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=manifests("wharf-gateway-reviews"))


def test_an_impersonating_gateway_needs_the_rights_of_the_manual_and_no_more(cluster: Cluster, token: str) -> None:
    async def main() -> None:
        async with client(cluster, "prod-a-gateway", impersonation_headers(JANE)) as as_jane:
            with pytest.raises(StatusError, match='User "prod-a-gateway" cannot impersonate'):
                await whoami(as_jane)
            cluster.kubectl("apply", "-f", "-", stdin=manifests("wharf-gateway-impersonation"))
            assert await eventually(lambda: whoami(as_jane)) == JANE
        async with client(cluster, "prod-a-gateway") as one:
            user = await TokenReviewer(one, REVIEW, CLOCK).review(token)
            assert user is not None
            assert user.name == ROBOT
            assert not await AccessReviewer(one, CLOCK).allows(User("jane"), Access("users", "bob"))

    try:
        run(main())
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=manifests("wharf-gateway-impersonation"))


def spellings(token: str) -> dict[str, bytes]:
    header, claims, signature = token.split(".")
    nbsp = "\u00a0".encode()
    last = signature[:-1] + chr(ord(signature[-1]) + 1)
    return {
        "case": b"bEARER " + token.encode(),
        "text behind": b"Bearer " + token.encode() + b" x",
        "unicode space behind": b"Bearer " + token.encode() + nbsp,
        "unicode space inside": b"Bearer " + header[:5].encode() + nbsp + token[5:].encode(),
        "unused bits": b"Bearer " + f"{header}.{claims}.{last}".encode(),
    }


@pytest.mark.parametrize("name", spellings("a.b.AA"))
def test_a_spelling_that_the_server_takes_for_the_token_is_the_same_here(
    cluster: Cluster, token: str, name: str
) -> None:
    value = spellings(token)[name]

    async def main() -> None:
        async with client(cluster, "", ((b"authorization", value),)) as one:
            assert (await whoami(one)).name == ROBOT

    run(main())
    assert canonical_token(bearer_token(value) or "") == canonical_token(token)


def test_no_answer_to_an_invented_token_is_taken_for_evidence(cluster: Cluster, token: str) -> None:
    targets = [
        b"/version",
        b"/healthz",
        b"/readyz",
        b"/api",
        b"/metrics",
        b"/api/v1/pods",
        b"/version?timeout=x",
        b"/x",
    ]

    async def main() -> None:
        access = load_kubeconfig(cluster.plane.kubeconfig)
        pool = HttpPool(Target(access.host, access.port, client_context(access.ca_pem)))

        async def status(method: bytes, target: bytes, bearer: str) -> int:
            headers = [(b"authorization", b"Bearer " + bearer.encode())]
            return (await fetch(pool, method, target, headers, authority=b"localhost", timeout=10)).status

        found = {(b"GET", target): await status(b"GET", target, "invented") for target in targets}
        found[b"OPTIONS", b"*"] = await status(b"OPTIONS", b"*", "invented")
        assert found[b"OPTIONS", b"*"] == 200
        assert found[b"GET", b"/version?timeout=x"] == 400
        assert not [request for request, code in found.items() if is_evidence(request[0], code)], found
        assert is_evidence(b"GET", await status(b"GET", b"/version", token))
        await pool.close()

    run(main())
