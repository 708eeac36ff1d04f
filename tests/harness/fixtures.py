"""Fixtures of the servers in `harness.backing`: one of each per module, started when the first test asks for it.

A suite's conftest takes them by `from harness.fixtures import nats, postgres, redis`. A test that must not see what
others left asks `postgres.fresh()` or `redis.fresh()` for a URL; a test that harms a server brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.backing import Nats, Postgres, Redis


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A primary without standby."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """Without password or TLS; its data survive a restart."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="module")
def nats() -> Iterator[Nats]:
    """Without password or TLS."""
    with Nats() as server:
        yield server
