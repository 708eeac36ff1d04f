"""UpstreamClusters of a real home cluster: changes arrive, Secrets rotate, and the rights needed are the least."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway.api.documents import document, spec
from harness.cluster import Cluster
from harness.crd import upstream_clusters
from wharf.common.kube.client import KubeClient
from wharf.common.kube.kubeconfig import load_kubeconfig
from wharf.gateway.api.status import ServerSight, Sight, plan_status
from wharf.gateway.sources.base import ClusterObjects
from wharf.gateway.sources.kube import CLUSTERS, KubeSource
from wharf.wire.client import HttpPool

Json = dict[str, Any]
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: wharf-gateway-test}
rules:
- {apiGroups: [proxy.wharf.dev], resources: [upstreamclusters], verbs: [list, watch]}
- {apiGroups: [proxy.wharf.dev], resources: [upstreamclusters/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: wharf-gateway-test}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [blue], verbs: [list, watch]}
"""


@pytest.fixture(scope="module", autouse=True)
def crd(cluster: Cluster) -> Iterator[None]:
    with upstream_clusters(cluster):
        yield


@pytest.fixture
def gateway_token(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A service account that may do what a gateway must, and nothing else."""
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "gateway")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=ROLE)
    account = f"--serviceaccount={namespace}:gateway"
    cluster.kubectl("create", "clusterrolebinding", "wharf-gateway-test", "--clusterrole=wharf-gateway-test", account)
    cluster.kubectl(
        "-n", namespace, "create", "rolebinding", "wharf-gateway-test", "--role=wharf-gateway-test", account
    )
    yield cluster.kubectl("-n", namespace, "create", "token", "gateway").strip()
    cluster.kubectl("delete", "clusterrolebinding,clusterrole", "wharf-gateway-test")


class Home:
    """A source under way against the real API."""

    def __init__(self, client: KubeClient, source: KubeSource, told: asyncio.Queue[ClusterObjects]) -> None:
        self.client = client
        self.source = source
        self.told = told

    async def until(self, seen: Callable[[ClusterObjects], bool]) -> ClusterObjects:
        while not seen(self.source.current):
            await self.told.get()
        return self.source.current


@contextlib.asynccontextmanager
async def watching(cluster: Cluster, token: str) -> AsyncIterator[Home]:
    access = load_kubeconfig(Path(cluster.plane.kubeconfig))
    pool = HttpPool(replace(access, cert_pem=b"", key_pem=b"").target())
    told: asyncio.Queue[ClusterObjects] = asyncio.Queue()
    headers = ((b"authorization", f"Bearer {token}".encode()),)
    client = KubeClient(lambda: pool, lambda: headers)
    source = KubeSource(client, told.put_nowait)
    task = asyncio.create_task(source.run())
    try:
        async with asyncio.timeout(60):
            yield Home(client, source, told)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pool.close(0.0)


def apply(cluster: Cluster, *documents: Json) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def secret(namespace: str, value: bytes) -> Json:
    metadata = {"name": "blue", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": {"token": base64.b64encode(value).decode()},
    }


def reference(namespace: str, name: str = "blue") -> Json:
    return {"token": {"secretRef": {"namespace": namespace, "name": name}}}


def token_of(objects: ClusterObjects, name: str) -> bytes:
    found = [one.upstream.token for one in objects.clusters if one.name == name]
    return found[0].pem if found and found[0] is not None else b""


def test_edge_38_changes_of_objects_and_secrets_arrive_with_the_least_rights(
    cluster: Cluster, namespace: str, gateway_token: str
) -> None:
    async def run() -> None:
        async with watching(cluster, gateway_token) as home:
            assert (await home.until(lambda objects: objects.synced)).clusters == ()
            one = document(spec(upstream=reference(namespace)), "blue.example.com")
            await asyncio.to_thread(apply, cluster, secret(namespace, b"first"), one)
            await home.until(lambda objects: token_of(objects, "blue.example.com") == b"first")
            await asyncio.to_thread(apply, cluster, secret(namespace, b"second"))
            objects = await home.until(lambda objects: token_of(objects, "blue.example.com") == b"second")
            assert objects.refused == ()

            sight = Sight("gw-a", objects.clusters[0].generation, (ServerSight("one", "https://10.0.0.1:6443", True),))
            for patch in plan_status({}, "blue.example.com", sight, 1_800_000_000.0):
                await home.client.patch_status(f"{CLUSTERS}/blue.example.com", patch.document, apply_as=patch.manager)
            shown = await asyncio.to_thread(cluster.kubectl, "get", "uc", "blue.example.com")
            assert "1/1" in shown

            other = document(spec(upstream=reference(namespace, "other")), "green.example.com")
            await asyncio.to_thread(apply, cluster, other)
            objects = await home.until(lambda objects: bool(objects.refused))
            assert "403" in objects.refused[0].problems[0]
            assert [one.name for one in objects.clusters] == ["blue.example.com"]
            await asyncio.to_thread(cluster.kubectl, "delete", "uc", "--all")
            await home.until(lambda objects: objects.clusters == () and objects.refused == ())

    asyncio.run(run())
