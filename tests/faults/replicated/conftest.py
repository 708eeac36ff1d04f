"""One cluster per module; whatever a test left broken is whole again before the next one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.nodes import BrainCluster


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrainCluster]:
    with BrainCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
        codes = [cluster.stop_node(node) for node in cluster.nodes]
        assert codes == [0] * len(codes), cluster.logs()
        assert not [node.name for node in cluster.nodes if "Traceback" in node.process.output()], cluster.logs()


@pytest.fixture
def cluster(shared_cluster: BrainCluster) -> BrainCluster:
    """Three nodes that serve, one of which leads."""
    shared_cluster.repair()
    return shared_cluster
