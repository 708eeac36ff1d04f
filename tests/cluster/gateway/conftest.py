"""What the suites of this folder share: two clusters behind one gateway, and people who use them.

`one.test` is two kube-apiservers on one brain with controllers, `two.test` a single one on a brain of its own. Their
authorities know nothing of each other. Tests leave them as they found them, names of namespaces apart.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster.conftest import HasLogs
from harness.cluster import Cluster
from harness.gateway import Front, Gateway, apiserver_options, token_kubeconfig, upstream_cluster
from harness.kubectl import Kubectl
from wharf.cli.kube.controlplane import ControlPlane, ControlPlaneOptions
from wharf.cli.kube.credentials import ADMIN, Identity, kubeconfig

ONE, TWO = "one.test", "two.test"
_NAME_MAX = 50
ADDRESSES = {ONE: "127.0.0.1", TWO: "127.0.0.2"}
ALICE = Identity("alice", "alice@example.test", ("developers", "on call"))


@dataclass
class House:
    """Everything that runs. `direct` and `through` are kubectl for the admin of `one.test`."""

    gateway: Gateway
    one: Cluster
    two: Cluster

    @property
    def direct(self) -> Kubectl:
        return self.one.kubectl

    @property
    def through(self) -> Kubectl:
        return self.kubectl()

    @property
    def front(self) -> Front:
        """`one.test` as clients of the gateway see it."""
        return Front(self.gateway, ONE, self.one.plane)

    def kubectl(self, identity: Identity = ADMIN, cluster: str = ONE) -> Kubectl:
        """Through the gateway, with a client certificate."""
        config = self.gateway.kubeconfig(cluster, self.cluster(cluster).plane, identity)
        return Kubectl(self.one.kubectl.binary, config)

    def past(self, identity: Identity) -> Kubectl:
        """The same user past the gateway."""
        plane = self.one.plane
        folder = plane.folder / f"direct-{identity.name}"
        folder.mkdir(exist_ok=True)
        return Kubectl(self.one.kubectl.binary, kubeconfig(plane.pki, folder / "kubeconfig", plane.url, identity))

    def with_token(self, name: str, token: str, *, through: bool = True) -> Kubectl:
        """With a bearer token, through the gateway or past it."""
        plane = self.one.plane
        if through:
            return Kubectl(self.one.kubectl.binary, self.gateway.token_kubeconfig(ONE, plane, name, token))
        return Kubectl(self.one.kubectl.binary, token_kubeconfig(plane.folder / name, plane.url, plane, token))

    def cluster(self, name: str) -> Cluster:
        return self.one if name == ONE else self.two

    def logs(self) -> str:
        return "\n".join(one.logs() for one in (self.one, self.two, self.gateway))


def _plane(folder: Path, apiservers: int, controllers: bool) -> Cluster:
    # An apiserver that is to stop is not ready for a while before it refuses, and ends its watches instead of waiting a
    # minute for them: as installers of several apiservers behind a balancer set them up.
    leaving = ("--shutdown-delay-duration=3s", "--shutdown-watch-termination-grace-period=1s")
    servers = tuple(apiserver_options(extra=leaving) for _ in range(apiservers))
    options = ControlPlaneOptions(servers, controllers)
    return Cluster.create(folder, options)


def document(name: str, plane: ControlPlane, **spec: object) -> dict[str, object]:
    """The UpstreamCluster of one of the two."""
    return upstream_cluster(name, plane, ADDRESSES[name], **spec)


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Both clusters and the gateway before them."""
    folder = tmp_path_factory.mktemp("gateway")
    clusters = [_plane(folder / "one", 2, True), _plane(folder / "two", 1, False)]
    with ExitStack() as down:
        for cluster in clusters:
            down.callback(cluster.stop)
        with ThreadPoolExecutor(len(clusters)) as pool:
            list(pool.map(lambda cluster: cluster.start(), clusters))
        gateway = Gateway(folder / "proxy", ADDRESSES)
        for name, cluster in zip((ONE, TWO), clusters, strict=True):
            gateway.put(document(name, cluster.plane, logging={"access": True}))
        down.callback(gateway.close)
        yield House(gateway.start(), *clusters)


@pytest.fixture(autouse=True)
def _told(house: House, shown_on_failure: list[HasLogs]) -> None:
    """A failed test shows what all of them last said."""
    shown_on_failure.append(house)


@pytest.fixture
def space(house: House, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of `one.test`, named after the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")
    if len(name) > _NAME_MAX:  # what is cut off may be what tells two from each other
        name = f"{name[:_NAME_MAX].strip('-')}-{zlib.crc32(name.encode()):08x}"
    house.one.create_namespace(name)
    yield name
    house.direct("delete", "namespace", name, "--wait=false")
