"""Fixtures of the cluster suite: clusters that are stopped at the end, their logs in the report of a failed test."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from harness.cluster import Cluster
from harness.node import NAME, Node
from harness.sandbox import Sandbox
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.controlplane import ControlPlaneOptions

ClusterFactory = Callable[..., Cluster]


class HasLogs(Protocol):
    """Something with last words."""

    def logs(self) -> str: ...


_running: list[HasLogs] = []


def pytest_configure() -> None:
    """Whoever ends this run with SIGTERM (a time limit, CI) must not leave clusters behind: fixtures are taken down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what every running process last said."""
    report = yield
    if report.failed:
        report.sections += [("cluster logs", one.logs()) for one in _running]
    return report


def _factory(folder: Callable[[], Path]) -> Iterator[ClusterFactory]:
    ours: list[Cluster] = []

    def start(
        options: ControlPlaneOptions | None = None, *, store_tls: bool = False, store_flags: tuple[str, ...] = ()
    ) -> Cluster:
        cluster = Cluster.create(folder(), options, store_tls=store_tls, store_flags=store_flags)
        ours.append(cluster)
        _running.append(cluster)
        return cluster.start()

    yield start
    for cluster in ours:
        cluster.stop()
        _running.remove(cluster)


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[ClusterFactory]:
    """Starts clusters with options of the test's own; all are stopped when it ends."""
    numbers = iter(range(100))
    yield from _factory(lambda: tmp_path / f"cluster-{next(numbers)}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster with default options for all tests that leave it as they found it."""
    for start in _factory(lambda: tmp_path_factory.mktemp("cluster")):
        yield start()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty namespace of the shared cluster, named after the test."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:60].strip("-")
    cluster.create_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def shown_on_failure() -> Iterator[list[HasLogs]]:
    """A list for whatever a test starts by itself: its logs go into the report when it fails."""
    before = list(_running)
    yield _running
    _running[:] = before


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A real node, joined to a cluster whose apiserver listens on the link to it; the suites on it share one."""
    folder = tmp_path_factory.mktemp("node")
    sandbox = Sandbox(folder / "sandbox").start()
    before = list(_running)
    try:
        server = ApiserverOptions(port=0, bind_address=sandbox.outside, advertise_address=sandbox.outside)
        cluster = Cluster.create(folder, ControlPlaneOptions(apiservers=(server,)))
        try:
            cluster.start()
            node = Node(sandbox, cluster)
            _running.extend((cluster, node))
            try:
                role = ("--clusterrole=system:node-proxier", "--user=system:kube-proxy")
                cluster.kubectl("create", "clusterrolebinding", "kube-proxy", *role)
                node.start()
                cluster.kubectl("wait", "--for=create", f"node/{NAME}", "--timeout=60s")
                cluster.kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=60s")
                yield node
            finally:
                node.stop()
        finally:
            cluster.stop()
    finally:
        sandbox.stop()
        _running[:] = before


@pytest.fixture
def node_cluster(node: Node) -> Cluster:
    """The cluster of the real node."""
    return node.cluster
