"""`wharf gateway` over a directory of UpstreamClusters, in front of control planes that tests have started.

    gateway = Gateway(folder)
    gateway.put(upstream_cluster("one.test", cluster.plane, gateway.address("one.test")))
    with gateway: Kubectl(binary, gateway.kubeconfig("one.test", plane, identity))...

Each cluster has an address of its own in 127.0.0.0/8, so that stock clients reach it by an address (which is what
`server:` in their kubeconfigs says) and by name. Its serving certificate is signed by the cluster's own authority, the
apiservers are told who asks by X-Remote-* headers, shown with the control plane's front-proxy certificate.
Invariant: whatever is started here is ended by `close`.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from wharf.cli.kube import credentials
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlane
from wharf.cli.kube.pki import Authority

from harness.api import Api
from harness.daemon import LOOPBACK, Daemon, lasting_port

Json = dict[str, Any]
UID_HEADERS = ("--requestheader-uid-headers=X-Remote-Uid",)  # what an apiserver must be told beside wharf's usual flags
_READY_TEXT = "ready to serve client requests"


def apiserver_options(bind_address: str = LOOPBACK, **others: Any) -> ApiserverOptions:
    """An apiserver that takes a user's UID from the gateway too."""
    extra = (*UID_HEADERS, *others.pop("extra", ()))
    return ApiserverOptions(port=0, bind_address=bind_address, extra=extra, **others)


def inline(path: Path) -> Json:
    """A certificate, key or CA in a document."""
    return {"pem": path.read_text()}


def upstream_cluster(name: str, plane: ControlPlane, address: str, **spec: Any) -> Json:
    """The document of a control plane. `spec`: further fields, which are merged in."""
    serving = Authority(plane.pki).server(f"gateway-{name}", (name, address))
    files = plane.files
    usual: Json = {
        "addresses": [address],
        "servers": [{"url": url} for url in plane.urls],
        "serving": {
            "certificate": inline(serving.cert),
            "key": inline(serving.key),
            "clientCA": inline(files.ca.cert),
        },
        "upstream": {
            "ca": inline(files.ca.cert),
            "certificate": inline(files.front_proxy_client.cert),
            "key": inline(files.front_proxy_client.key),
        },
        "health": {"interval": 0.5, "timeout": 2, "failures": 1, "successes": 1, "slowStart": 0},
    }
    return {
        "apiVersion": "proxy.wharf.dev/v1alpha1",
        "kind": "UpstreamCluster",
        "metadata": {"name": name},
        "spec": merged(usual, spec),
    }


def token_kubeconfig(folder: Path, server: str, plane: ControlPlane, token: str) -> Path:
    """A kubeconfig with a bearer token instead of a certificate."""
    authority = base64.b64encode(plane.files.ca.cert.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "one", "user": {"token": token}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    folder.mkdir(exist_ok=True)
    path = folder / "kubeconfig"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def merged(one: Json, other: Mapping[str, Any]) -> Json:
    """`one` with the fields of `other`; objects are merged, everything else is replaced."""
    result = dict(one)
    for key, value in other.items():
        mine = result.get(key)
        result[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, Mapping) else value
    return result


class Gateway(Daemon):
    """One instance. In a `with` block it is started, and dead at the end."""

    ready_text = _READY_TEXT

    def __init__(self, folder: Path, clusters: Mapping[str, str], flags: Sequence[str] = ()) -> None:
        """`clusters`: the address of each by name; it listens on all of them at one port."""
        super().__init__("gateway", folder)
        self.clusters = dict(clusters)
        self.health_port = lasting_port()
        self.flags = tuple(flags)
        self.documents = self.folder / "clusters"
        self.documents.mkdir(exist_ok=True)
        self.access_log = self.folder / "access.log"

    def command(self) -> Sequence[str | Path]:
        listen = ",".join(f"https://{address}:{self.port}" for address in self.clusters.values())
        return [
            Path(sys.prefix) / "bin" / "wharf",
            "gateway",
            f"--config-dir={self.documents}",
            f"--listen={listen}",
            f"--health-listen=http://{LOOPBACK}:{self.health_port}",
            f"--access-log={self.access_log}",
            *self.flags,
        ]

    def put(self, document: Json) -> None:
        """A new or changed cluster; it is taken within a second."""
        path = self.documents / f"{document['metadata']['name']}.json"
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(document))
        scratch.replace(path)

    def url(self, cluster: str) -> str:
        """Where clients of a cluster go."""
        return f"https://{self.clusters[cluster]}:{self.port}"

    def kubeconfig(self, cluster: str, plane: ControlPlane, identity: credentials.Identity = credentials.ADMIN) -> Path:
        """For a user with a certificate."""
        path = self.folder / f"{cluster}-{identity.name}" / "kubeconfig"
        path.parent.mkdir(exist_ok=True)
        return credentials.kubeconfig(plane.pki, path, self.url(cluster), identity)

    def token_kubeconfig(self, cluster: str, plane: ControlPlane, name: str, token: str) -> Path:
        """For whoever a bearer token belongs to."""
        return token_kubeconfig(self.folder / f"{cluster}-{name}", self.url(cluster), plane, token)

    def connect(self, cluster: str, plane: ControlPlane, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """HTTP/1.1 as the admin."""
        context = ssl.create_default_context(cafile=str(plane.files.ca.cert))
        context.load_cert_chain(plane.files.admin.cert, plane.files.admin.key)
        return http.client.HTTPSConnection(self.clusters[cluster], self.port, context=context, timeout=timeout)

    def health(self, path: str = "/readyz") -> tuple[int, str]:
        """A page of the health port."""
        with closing(http.client.HTTPConnection(LOOPBACK, self.health_port, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values over all series with these labels."""
        total = 0.0
        for line in self.health("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            told, _, of = series.partition("{")
            if told == name and all(f'{label}="{wanted}"' in of for label, wanted in labels.items()):
                total += float(value)
        return total

    def accesses(self) -> list[Json]:
        """The access log so far."""
        return (
            [json.loads(line) for line in self.access_log.read_text().splitlines()] if self.access_log.exists() else []
        )


class Front:
    """A cluster as seen through a gateway: what `Api`, `churn` and `informers` want of one."""

    def __init__(self, gateway: Gateway, cluster: str, plane: ControlPlane) -> None:
        self._gateway, self._cluster, self._plane = gateway, cluster, plane
        self.kubeconfig = gateway.kubeconfig(cluster, plane)
        self.urls = (gateway.url(cluster),)

    def connect(self, url: str | None = None, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """HTTP/1.1 as the admin; there is but one URL."""
        assert url in {None, *self.urls}
        return self._gateway.connect(self._cluster, self._plane, timeout)

    def api(self, index: int = 0) -> Api:
        """A new client."""
        return Api(self, index)
