"""Fixtures of the integration suite: the servers a replicated brain stands on, and a network that fails on demand."""

from collections.abc import Iterator

import pytest
from harness.faultproxy import FaultProxy
from harness.fixtures import nats, postgres, redis

__all__ = ["nats", "postgres", "proxy", "redis"]


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as running:
        yield running
