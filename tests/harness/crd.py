"""The chart's CRD in a cluster that is shared: there while a test needs it, and gone from discovery afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml
from wharf.gateway.api.crd import FILE

from harness.cluster import Cluster

CRD: Final = Path(__file__).resolve().parents[2] / FILE
NAME: Final[str] = yaml.safe_load(CRD.read_text())["metadata"]["name"]
GROUP: Final = NAME.partition(".")[2]
_ESTABLISHED: Final = '{.status.conditions[?(@.type=="Established")].status}=True'
_LONGEST: Final = 30.0  # seconds until every handler of the apiserver knows


@contextlib.contextmanager
def upstream_clusters(cluster: Cluster) -> Iterator[None]:
    """UpstreamClusters exist inside of this."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    try:
        cluster.kubectl("wait", f"--for=jsonpath={_ESTABLISHED}", f"crd/{NAME}", "--timeout=30s")
        yield
    finally:
        remove(cluster)


def remove(cluster: Cluster) -> None:
    """Takes the CRD and its objects away; returns when discovery has forgotten them."""
    cluster.kubectl("delete", "crd", NAME, "--ignore-not-found")
    deadline = time.monotonic() + _LONGEST
    with cluster.api() as api:
        while GROUP in [group["name"] for group in api.get("/apis")["groups"]]:
            assert time.monotonic() < deadline, "discovery still has the group"
            time.sleep(0.1)  # nothing tells when discovery changes
