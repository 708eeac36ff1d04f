"""Short requests that one user holds open leave places at the servers to all other users."""

from __future__ import annotations

import json

import pytest
from gateway.serve.kit import STREAMS_MAX, Opened, Stack, answer, run, stack, until
from wharf.gateway.cluster import runtime
from wharf.wire.client import HttpPool
from wharf.wire.web import Exchange

PODS = b"/api/v1/namespaces/a/pods"
HALF = STREAMS_MAX // 2
EXCESS = HALF + 10  # with HALF, more than all places of one connection
LARGE = b"x" * 700_000  # more than the windows of one stream take


class Lines:
    """A log that keeps the fields of its warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, object]] = []

    def info(self, message: str, **fields: object) -> None: ...

    def warn(self, message: str, **fields: object) -> None:
        self.warnings.append(fields)


async def use(made: Stack, limit: int, connections: int = 1, **fields: str) -> None:
    """A version with so many HTTP/2 connections for short requests, and the bound of a user that follows."""
    document = made.document()
    document["spec"]["upstream"] |= {"connectionsMax": connections} | fields
    endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
    before = endpoint.pools
    await made.apply(document)
    await until(lambda: endpoint.pools is not before, "the new version is in use")
    assert _limit(made) == limit


def _limit(made: Stack) -> int:
    return made.gateway.registry.runtimes["prod"].short_per_user


async def hold(made: Stack, client: HttpPool, number: int, method: bytes) -> list[Opened]:
    """Requests whose bodies never end, or whose answers are never read."""
    opened = []
    for _ in range(number):
        one = await made.open(client, PODS, method=method, end=method == b"GET")
        one.taking = False
        opened.append(one)
    return opened


def large_to_alice(exchange: Exchange) -> None:
    answer(exchange, LARGE if exchange.target == PODS else b"{}")


def refused(opened: list[Opened]) -> list[Opened]:
    return [one for one in opened if one.status == 429]


@pytest.mark.parametrize("method", [b"POST", b"GET"])
def test_a_user_who_holds_short_requests_leaves_places_to_others(
    method: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    monkeypatch.setattr(runtime, "_log", lines)

    async def main() -> None:
        async with stack() as made:
            await use(made, HALF)
            made.servers[0].behave = large_to_alice
            alice, bob = made.client(made.pki.alice), made.client(made.pki.bob)
            opened = await hold(made, alice, HALF + EXCESS, method)
            await until(lambda: len(refused(opened)) == EXCESS, "the excess is refused")
            assert (await made.ask(bob)).status == 200
            one = refused(opened)[0]
            await until(lambda: one.ended)
            status, headers = json.loads(one.body), dict(one.headers)
            assert (status["kind"], status["reason"], status["code"]) == ("Status", "TooManyRequests", 429)
            assert (headers[b"retry-after"], headers[b"x-wharf-gateway"]) == (b"1", b"short_requests")
            counts = made.gateway.registry.runtimes["prod"].short_requests
            assert (counts.users, counts.most) == (1, HALF)
            other_connection = made.client(made.pki.alice)
            assert (await made.ask(other_connection)).status == 429, "counted over all connections"
            for held in opened:
                held.request.reset()
            await until(lambda: not counts.users, "every end releases")
            assert (await made.ask(alice)).status == 200

    run(main())
    found = [(line["bound"], line["limit"], line["user"]) for line in lines.warnings if "bound" in line]
    assert found == [("short requests of a user", HALF, "alice")], "one line in so many seconds"


def test_the_bound_follows_the_connections_that_servers_get() -> None:
    async def main() -> None:
        async with stack() as made:
            assert _limit(made) == 64 * HALF
            await use(made, 3 * HALF, 3)
            await use(made, 512, protocol="HTTP1")

    run(main())
