"""Watches of one client leave the servers to all others: connections grow with demand, and each client is bounded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway.serve.kit import STREAMS_MAX, Opened, Stack, answer, run, stack, until
from wharf.gateway.cluster import runtime
from wharf.wire.client import HttpPool
from wharf.wire.web import Exchange, Headers

WATCH = b"/api/v1/pods?watch=1"
HEALTH = {"interval": 0.1, "timeout": 2, "failures": 1}


def hold_watches(exchange: Exchange) -> None:
    """Watches stay open, everything else is answered."""
    if b"watch=1" in exchange.target:
        exchange.respond(200, [(b"content-type", b"application/json")])
    else:
        answer(exchange)


def metric(made: Stack, name: str, **labels: str) -> float:
    """The sum of all samples that have these labels."""
    found = 0.0
    for family in made.gateway.families():
        if family.name == f"wharf_gateway_{name}":
            matching = [one.value for one in family.samples if labels.items() <= dict(one.labels).items()]
            found += sum(value for value in matching if isinstance(value, float | int))
    return found


async def watch(made: Stack, client: HttpPool, number: int, headers: Headers = ()) -> list[Opened]:
    """So many watches, each answered in one way or the other."""
    opened = [await made.open(client, WATCH, headers) for _ in range(number)]
    await until(lambda: all(one.status or one.failure for one in opened), "every watch is answered")
    return opened


def statuses(opened: list[Opened]) -> list[int]:
    return [one.status for one in opened]


def verdicts(made: Stack) -> set[str]:
    runtime = made.gateway.registry.runtimes["prod"]
    return {endpoint.health.verdict.value for endpoint in runtime.members.endpoints}


async def probed(made: Stack, times: int = 3) -> None:
    before = made.servers[0].probes
    await until(lambda: made.servers[0].probes >= before + times, "the server is probed")


@pytest.mark.parametrize("credential", ["certificate", "token"])
def test_815_watches_of_one_user_leave_requests_of_others_and_probes_alone(credential: str) -> None:
    async def main() -> None:
        async with stack(health=HEALTH, longRunning={"perConnectionMax": 0}) as made:
            made.servers[0].behave = hold_watches
            by_token = credential == "token"
            watcher, other = made.client(None if by_token else made.pki.alice), made.client(made.pki.bob)
            headers = [(b"authorization", b"Bearer alice")] if by_token else []
            opened = await watch(made, watcher, 815, headers)
            assert statuses(opened) == [200] * 815
            assert watcher.stats.connections == 1
            assert metric(made, "server_connections", use="long_running") == -(-815 // STREAMS_MAX)
            assert (await made.ask(other)).status == 200
            assert (await made.ask(watcher, headers=headers)).status == 200
            assert statuses(await watch(made, other, 1)) == [200]
            await probed(made)
            assert verdicts(made) == {"healthy"}
            assert metric(made, "long_running_user_most", cluster="prod") == 815
            for one in opened:
                one.request.reset()
            await until(lambda: metric(made, "long_running_user_most", cluster="prod") == 1)
            assert metric(made, "long_running_users", cluster="prod") == 1

    run(main())


def test_a_client_connection_with_too_many_watches_is_sent_to_another_one() -> None:
    async def main() -> None:
        async with stack(longRunning={"perConnectionMax": 50}) as made:
            made.servers[0].behave = hold_watches
            client = made.client(made.pki.alice)
            opened = await watch(made, client, 60)
            assert sorted(statuses(opened)) == [200] * 50 + [429] * 10
            refused = next(one for one in opened if one.status == 429)
            await until(lambda: refused.ended)
            status = json.loads(refused.body)
            assert (status["kind"], status["reason"], status["code"]) == ("Status", "TooManyRequests", 429)
            assert dict(refused.headers)[b"retry-after"] == b"1"
            assert status["details"]["retryAfterSeconds"] == 1
            await until(lambda: client.stats.draining == 1, "GOAWAY has come")
            assert statuses(await watch(made, client, 10)) == [200] * 10
            assert not any(one.over for one in opened if one.status == 200), "watches under way go on"
            assert metric(made, "long_running_refused_total", cluster="prod", bound="connection") == 10

    run(main())


class Lines:
    """A log that keeps the fields of its warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, object]] = []

    def info(self, message: str, **fields: object) -> None: ...

    def warn(self, message: str, **fields: object) -> None:
        self.warnings.append(fields)


def test_a_user_is_bounded_over_all_connections_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.setattr(runtime, "_log", lines)

    async def main() -> None:
        async with stack(longRunning={"perUserMax": 5}) as made:
            made.servers[0].behave = hold_watches
            first, second = made.client(made.pki.alice), made.client(made.pki.alice)
            opened = await watch(made, first, 3) + await watch(made, second, 7)
            assert sorted(statuses(opened)) == [200] * 5 + [429] * 5
            assert {dict(one.headers)[b"retry-after"] for one in opened if one.status == 429} == {b"10"}
            assert statuses(await watch(made, made.client(made.pki.bob), 5)) == [200] * 5
            assert (await made.ask(first)).status == 200, "short requests are not counted"
            opened[0].request.reset()
            await until(lambda: metric(made, "long_running_users") == 2 and len(made.gateway.handler.active) == 9)
            assert statuses(await watch(made, first, 1)) == [200]

    run(main())
    found = [(line["bound"], line["limit"], line["user"]) for line in lines.warnings]
    assert found == [("longRunning of a user", 5, "alice")], "one line in so many seconds"


def test_tokens_that_pass_through_are_bounded_each_by_itself() -> None:
    async def main() -> None:
        async with stack(longRunning={"perUserMax": 5}) as made:
            made.servers[0].behave = hold_watches
            client = made.client()
            for token in (b"one", b"two"):
                opened = await watch(made, client, 6, [(b"authorization", b"Bearer " + token)])
                assert sorted(statuses(opened)) == [200] * 5 + [429]
            assert sorted(statuses(await watch(made, client, 6))) == [200] * 5 + [429], (
                "all anonymous requests together"
            )

    run(main())


def test_watches_that_take_all_their_connections_leave_those_of_short_requests() -> None:
    async def main() -> None:
        async with stack(longRunning={"perConnectionMax": 0}) as made:
            one_try: dict[str, Any] = {"timeouts": {"connect": 2}, "retry": {"attempts": 0}}
            document = made.document(health=HEALTH, longRunning={"perConnectionMax": 0}, **one_try)
            document["spec"]["upstream"]["watchConnectionsMax"] = 2
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            before = endpoint.pools
            await made.apply(document)
            await until(lambda: endpoint.pools is not before, "the new version is in use")
            made.servers[0].behave = hold_watches
            client = made.client(made.pki.alice)
            opened = await watch(made, client, 2 * STREAMS_MAX + 5)
            assert sorted(statuses(opened)) == [200] * 200 + [503] * 5
            refused = next(one for one in opened if one.status == 503)
            assert b"retry-after" in dict(refused.headers)
            assert (await made.ask(client)).status == 200
            await probed(made)
            assert verdicts(made) == {"healthy"}

    run(main())


def test_a_storm_of_watches_is_served_by_as_few_connections_as_it_needs() -> None:
    async def main() -> None:
        async with stack(servers=2, longRunning={"perConnectionMax": 0}) as made:
            for server in made.servers:
                server.behave = hold_watches
            clients = [made.client(made.pki.alice) for _ in range(30)]
            opened = await asyncio.gather(*(watch(made, client, 50) for client in clients))
            assert {status for some in opened for status in statuses(some)} == {200}
            used = metric(made, "server_connections", use="long_running")
            assert 1500 / STREAMS_MAX <= used <= 1500 / STREAMS_MAX + 2 * 4
            assert metric(made, "server_dials_failed_total") == 0

    run(main())


def test_a_request_that_waits_for_a_connection_goes_over_those_that_replace_it() -> None:
    async def main() -> None:
        async with stack(longRunning={"perConnectionMax": 0}) as made:
            document = made.document(longRunning={"perConnectionMax": 0})
            document["spec"]["upstream"]["watchConnectionsMax"] = 1
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            before = endpoint.pools
            await made.apply(document)
            await until(lambda: endpoint.pools is not before, "the new version is in use")
            made.servers[0].behave = hold_watches
            client = made.client(made.pki.alice)
            await watch(made, client, STREAMS_MAX)
            waiting = await made.open(client, WATCH)
            await until(lambda: metric(made, "server_requests_waiting", use="long_running") == 1)
            document["spec"]["upstream"]["serverName"] = "prod"  # other connections
            await made.apply(document)
            await until(lambda: waiting.status == 200)

    run(main())
