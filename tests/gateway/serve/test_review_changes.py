"""Configuration that changes while a request waits for something: nobody goes on as somebody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until
from gateway.serve.test_review_ends import idle
from gateway.serve.test_streams import WATCH, begin
from wharf.gateway.api.shapes import UpstreamCluster
from wharf.gateway.cluster.pools import Traffic
from wharf.gateway.cluster.runtime import ClusterRuntime, Slices
from wharf.gateway.serve import dispatch
from wharf.gateway.upstreams.endpoint import Standing

ONE: dict[str, Any] = {
    "flowControl": {"schemas": [{"name": "one", "maxInFlight": 1, "waitSeconds": 30}]},
    "policies": [{"name": "all", "flowControl": ["one"]}],
}
QUICK: dict[str, Any] = {"interval": 0.1, "timeout": 1.0, "failures": 2, "successes": 1, "slowStart": 0}


async def impersonating(made: Stack, **spec: Any) -> None:
    """From now on the gateway's certificate stands for the gateway itself, which may impersonate."""
    files = made.document()["spec"]["upstream"]
    await made.apply(made.document(upstream=files | {"identity": "Impersonation"}, **spec))
    (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
    await until(lambda: endpoint.standing(asyncio.get_running_loop().time()) is Standing.READY, "probed anew")


def test_who_waits_in_a_queue_is_not_sent_with_headers_the_new_credential_does_not_vouch_for() -> None:
    async def main() -> None:
        async with stack(health=QUICK, **ONE) as made:
            client = made.client(made.pki.alice)
            server = made.servers[0]
            server.behave = lambda _: None
            first = asyncio.create_task(made.ask(client))
            await until(lambda: server.requests)
            second = asyncio.create_task(made.ask(client))
            await until(lambda: len(made.gateway.handler.active) == 2)
            await impersonating(made, health=QUICK, **ONE)
            server.behave = answer
            answer(server.requests[0].exchange)
            assert (await first).status == 200
            refused = await second
            assert (refused.status, refused.header(b"retry-after")) == (503, b"1")
            assert (await made.ask(client)).status == 200
            assert [(seen.values(b"x-remote-user"), seen.values(b"impersonate-user")) for seen in server.requests] == [
                ([b"alice"], []),
                ([], [b"alice"]),
            ]
            await until(lambda: idle(made))

    run(main())


@pytest.mark.parametrize("who", ["certificate", "nobody"])
def test_what_fails_in_here_is_answered_and_leaves_nothing(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    async def main() -> None:
        async with stack() as made:
            monkeypatch.setattr(dispatch, "response_headers", fail)
            client = made.client(made.pki.alice if who == "certificate" else None)
            refused = await made.ask(client)
            assert (refused.status, refused.header(b"x-wharf-gateway")) == (500, b"internal")
            await until(lambda: idle(made))

    run(main())


def test_a_cluster_that_fails_in_here_holds_up_no_other_and_no_later_version(monkeypatch: pytest.MonkeyPatch) -> None:
    update = ClusterRuntime.update

    def fail(self: ClusterRuntime, spec: UpstreamCluster, slices: Slices) -> None:
        if spec.name == "prod" and spec.features.deny_all:
            raise RuntimeError("broken")
        update(self, spec, slices)

    async def main() -> None:
        async with stack() as made:
            monkeypatch.setattr(ClusterRuntime, "update", fail)
            made.write(made.document("third", hostnames=["third.example.org"]))
            await made.apply(made.document(features={"denyAll": True}))
            await until(lambda: "third" in made.gateway.registry.runtimes)
            assert made.gateway.registry.broken.keys() == {"prod"}
            client = made.client(made.pki.alice)
            assert (await made.ask(client)).status == 200
            await made.apply(made.document(features={"hideServer": True}))
            await until(lambda: not made.gateway.registry.broken)
            assert (await made.ask(client)).header(b"x-wharf-server") is None

    run(main())


def test_servers_of_a_name_stay_while_it_is_asked_for_in_another_rhythm() -> None:
    async def main() -> None:
        async with stack() as made:
            name: dict[str, Any] = {"name": "localhost", "port": made.servers[0].port}
            await made.apply(made.document(servers=[], discovery={"dns": name}))
            members = made.gateway.registry.runtimes["prod"].members
            await until(lambda: members.endpoints)
            before = members.endpoints
            await made.apply(made.document(servers=[], discovery={"dns": name | {"refreshSeconds": 60}}))
            assert members.endpoints == before
            await made.apply(made.document(servers=[], discovery={"dns": name | {"port": 1}}))
            await until(lambda: members.endpoints)
            assert not set(members.endpoints) & set(before)

    run(main())


def test_bounds_of_connections_change_without_new_ones() -> None:
    async def main() -> None:
        async with stack() as made:
            (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
            pools = endpoint.pools
            every = [pools.pool(traffic, long_running=long) for traffic in Traffic for long in (False, True)]
            await made.apply(made.document(breaker={"pendingMax": 7}, timeouts={"connect": 3}))
            assert endpoint.pools is pools
            assert {(pool.limits.pending_max, pool.limits.connect_timeout) for pool in every} == {(7, 3.0)}

    run(main())


def test_a_server_that_comes_back_meets_the_credentials_of_today() -> None:
    async def main() -> None:
        async with stack(2, health=QUICK) as made:
            client = made.client(made.pki.alice)
            for server in made.servers:
                server.behave = begin
            watches = [await made.open(client, WATCH) for _ in range(2)]
            await until(lambda: all(watch.status == 200 for watch in watches))
            members = made.gateway.registry.runtimes["prod"].members
            before = {endpoint: endpoint.pools for endpoint in members.endpoints}
            one = [{"url": made.servers[0].url}]
            await made.apply(made.document(health=QUICK, servers=one))
            files = made.document()["spec"]["upstream"]
            await made.apply(made.document(health=QUICK, servers=one, upstream=files | {"identity": "Impersonation"}))
            await made.apply(made.document(health=QUICK, upstream=files | {"identity": "Impersonation"}))
            assert set(members.endpoints) == set(before), "its stream kept it"
            assert all(endpoint.pools is not before[endpoint] for endpoint in members.endpoints)
            for seen in (*made.servers[0].requests, *made.servers[1].requests):
                seen.exchange.finish()
            await until(lambda: all(watch.ended for watch in watches), "streams lived on")

    run(main())
