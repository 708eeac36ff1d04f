"""The gateway of the embedded system: one UpstreamCluster in a directory that it watches, and the process.

The document is written at every start, because ports may be others; whatever else lies in the directory is the user's,
and is served too. The gateway meets kube-apiserver as an authenticating proxy: it has no rights of its own there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Health, Part
from wharf.cli.embedded.ports import APISERVER, GATEWAY, LOOPBACK, Ports
from wharf.cli.kube.argv import Credentials
from wharf.cli.kube.pki import Authority, KeyPair
from wharf.cli.version import own_version

CLUSTER: Final = "wharf"
DIRECT: Final = "wharf-direct"  # the kubeconfig's way around the gateway
_NAMES: Final = (CLUSTER, "localhost", LOOPBACK)
_HEAD: Final = "# Written by `wharf up` at every start. Put documents of your own beside it.\n"


def gateway(layout: Layout, ports: Ports, upstream: str, files: Credentials) -> Part:
    """The part, its certificate and its document made; `upstream` is kube-apiserver's URL."""
    serving = Authority(files.ca.cert.parent).server("gateway", _NAMES)
    document = _document(upstream, serving, files)
    path = layout.clusters / f"{CLUSTER}.yaml"
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(_HEAD + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    scratch.replace(path)
    endpoint, health = f"https://{LOOPBACK}:{ports.gateway}", f"http://{LOOPBACK}:{ports.gateway_health}"
    return Part(
        name=GATEWAY,
        argv=(
            *(sys.executable, "-P", "-m", "wharf.gateway"),  # -P: no module from a working directory
            f"--name={GATEWAY}",
            f"--config-dir={layout.clusters}",
            f"--listen={endpoint}",
            f"--health-listen={health}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            # Nobody else takes over here, so there is nothing to wait for.
            "--drain-delay=0s",
            "--drain-watches=1s",
            "--drain-timeout=5s",
        ),
        health=Health(f"{health}/readyz"),
        endpoint=endpoint,
        version=own_version("wharf-gateway"),
        after=(APISERVER,),
        ready_within=60.0,
    )


def _document(upstream: str, serving: KeyPair, files: Credentials) -> dict[str, Any]:
    return {
        "apiVersion": "proxy.wharf.dev/v1alpha1",
        "kind": "UpstreamCluster",
        "metadata": {"name": CLUSTER},
        "spec": {
            "hostnames": ["localhost"],
            "addresses": [LOOPBACK],
            "servers": [{"name": APISERVER, "url": upstream}],
            "serving": {**_pair(serving), "clientCA": _file(files.ca.cert)},
            "upstream": {"ca": _file(files.ca.cert), **_pair(files.front_proxy_client)},
        },
    }


def _pair(pair: KeyPair) -> dict[str, Any]:
    return {"certificate": _file(pair.cert), "key": _file(pair.key)}


def _file(path: Path) -> dict[str, str]:
    return {"file": str(path)}
