"""What a document says about connections, for each kind of traffic."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from gateway.api.documents import document, spec
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.api.shapes import Breaker, UpstreamCluster
from wharf.gateway.cluster.pools import PROBE_CONNECTIONS_MAX, Credentials, Pools, Traffic, pool_limits
from wharf.wire.client_shell import RequestFailed


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


def cluster(**parts: Any) -> UpstreamCluster:
    return parse_cluster(document(spec(servers=[{"url": "http://localhost"}], **parts)))


def test_short_and_long_running_requests_have_bounds_of_their_own() -> None:
    one = cluster(upstream={"connectionsMax": 3, "watchConnectionsMax": 30})
    assert pool_limits(one).connections_max == 3
    assert pool_limits(one, long_running=True).connections_max == 30
    assert pool_limits(one, Traffic.PROBES).connections_max == PROBE_CONNECTIONS_MAX


def test_zero_pending_requests_means_no_bound() -> None:
    one = cluster()
    assert pool_limits(one).pending_max == 16_384
    assert pool_limits(replace(one, breaker=Breaker(pending_max=0))).pending_max == sys.maxsize


def test_pools_are_made_at_their_first_use_and_take_over_new_bounds() -> None:
    async def main() -> None:
        one = cluster()
        pools = Pools(Credentials(one), one.servers[0], one)
        assert pools.made(long_running=False) == pools.made(long_running=True) == ()
        made = {pools.pool(traffic, long_running=long) for traffic in Traffic for long in (False, True)}
        assert len(made) == 2 * len(Traffic), "no traffic shares a pool with another"
        assert pools.pool(Traffic.VOUCHED) is pools.pool(Traffic.VOUCHED)
        pools.configure(cluster(upstream={"connectionsMax": 5, "watchConnectionsMax": 50}))
        assert pools.pool(Traffic.TOKENS).limits.connections_max == 5
        assert pools.pool(Traffic.TOKENS, long_running=True).limits.connections_max == 50
        assert pools.pool(Traffic.PROBES).limits.connections_max == PROBE_CONNECTIONS_MAX
        await pools.close()

    run(main())


def test_closed_pools_make_no_others() -> None:
    async def main() -> None:
        one = cluster()
        pools = Pools(Credentials(one), one.servers[0], one)
        await pools.close()
        with pytest.raises(RequestFailed):
            pools.pool(Traffic.VOUCHED)

    run(main())
