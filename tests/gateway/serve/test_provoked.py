"""What clients and servers behind a kube-apiserver can do does not eject it; what it does itself does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from gateway.serve.kit import Opened, Stack, answer, run, stack, until
from wharf.gateway.upstreams.endpoint import Standing
from wharf.wire.web import Exchange

PODS = b"/api/v1/namespaces/a/pods"
EJECT: dict[str, Any] = {"consecutiveFailures": 3, "eject": 600, "ejectMax": 600, "ejectShare": 1}
REQUESTS = 12


def ejected(made: Stack) -> int:
    now = made.gateway.handler.now()
    endpoints = made.gateway.registry.runtimes["prod"].members.endpoints
    return sum(endpoint.standing(now) is Standing.EJECTED for endpoint in endpoints)


def refuse(status: int) -> Callable[[Exchange], None]:
    return lambda exchange: answer(exchange, b"{}", status)


def abort_after_head(exchange: Exchange) -> None:
    exchange.respond(200, [(b"content-type", b"application/json")])
    exchange.send(b'{"items":[')
    exchange.abort()


def say_much(exchange: Exchange) -> None:
    for _ in range(40):
        exchange.inform(103, [(b"link", b"</a>")])


@dataclass(frozen=True)
class Case:
    """Requests that all fail in one way."""

    target: bytes
    behave: Callable[[Exchange], None]
    method: bytes = b"GET"
    anonymous: bool = False
    protocol: str = "h2"


PROVOKED = {
    "a deadline of an unauthenticated client": Case(b"/version?timeout=1ns", refuse(504), anonymous=True),
    "an unauthenticated client": Case(b"/version", refuse(503), anonymous=True),
    "a deadline of an authenticated client": Case(PODS + b"?timeout=1ns", refuse(504)),
    "a version that does not exist yet": Case(PODS + b"?resourceVersion=99999999999", refuse(504)),
    "a continue token of a version that does not exist yet": Case(PODS + b"?limit=5&continue=eyJydiI6OX0", refuse(504)),
    "a response aborted at the client's deadline": Case(PODS + b"?timeout=1s", abort_after_head),
    "discovery of an aggregated API": Case(b"/apis/metrics.k8s.io/v1beta1", refuse(503)),
    "an aggregated API": Case(b"/apis/metrics.k8s.io/v1beta1/nodes", refuse(503)),
    "the OpenAPI document of an aggregated API": Case(b"/openapi/v3/apis/metrics.k8s.io/v1beta1", refuse(503)),
    "an admission webhook": Case(PODS, refuse(503), b"POST"),
    "interim responses of a pod": Case(PODS + b"/b/proxy/", say_much, protocol="http1"),
}
OWN = {
    "an authenticated read": Case(b"/version", refuse(503)),
    "no deadline of the client's": Case(PODS, refuse(504)),
    "no version of the client's": Case(PODS + b"?limit=5", refuse(504)),
    "discovery of a built-in group": Case(b"/apis/apps/v1", refuse(503)),
    "interim responses without end of its own": Case(PODS + b"/b", say_much, protocol="http1"),
}


async def send(made: Stack, case: Case) -> None:
    for server in made.servers:
        server.behave = case.behave
    client = made.client(None if case.anonymous else made.pki.alice, case.protocol)
    for _ in range(REQUESTS):
        opened = await made.open(client, case.target, method=case.method)
        await until(partial(_is_over, opened))
    assert sum(len(server.requests) for server in made.servers) >= REQUESTS


def _is_over(opened: Opened) -> bool:
    return opened.over


@pytest.mark.parametrize("name", PROVOKED)
def test_what_others_provoke_ejects_no_server(name: str) -> None:
    async def main() -> None:
        async with stack(2, outliers=EJECT) as made:
            await send(made, PROVOKED[name])
            assert ejected(made) == 0

    run(main())


@pytest.mark.parametrize("name", OWN)
def test_what_a_server_does_itself_ejects_it(name: str) -> None:
    async def main() -> None:
        async with stack(2, outliers=EJECT) as made:
            await send(made, OWN[name])
            assert ejected(made) == 2

    run(main())


@pytest.mark.parametrize(("method", "out"), [(b"POST", 0), (b"GET", 1)])
def test_a_slow_request_body_is_not_the_servers_fault(method: bytes, out: int) -> None:
    async def main() -> None:
        async with stack(1, outliers=EJECT, timeouts={"head": 1, "total": 2}) as made:
            made.servers[0].behave = lambda exchange: None  # never answers
            client = made.client(made.pki.alice)
            opened = [await made.open(client, PODS, method=method, end=method == b"GET") for _ in range(4)]
            for one in opened:
                if method == b"POST":
                    one.request.send(b"{")
            await until(lambda: all(one.over for one in opened))
            assert {one.status for one in opened} == {504}
            assert ejected(made) == out

    run(main())


def test_a_profile_takes_as_long_as_its_client_asked_for() -> None:
    async def main() -> None:
        async with stack(1, outliers=EJECT, timeouts={"head": 1, "total": 2}) as made:
            held: list[Exchange] = []
            made.servers[0].behave = held.append
            client = made.client(made.pki.alice)
            profile = await made.open(client, b"/debug/pprof/profile?seconds=68")
            short = await made.open(client, b"/version")
            await until(lambda: len(held) == 2)
            await until(lambda: short.over)
            assert short.status == 504, "the timeout has passed"
            now = made.gateway.handler.now()
            await until(lambda: made.gateway.handler.now() > now + 1.0, "and has been looked at again")
            assert not profile.over
            answer(next(exchange for exchange in held if not exchange.done), b"profile")
            await until(lambda: profile.over)
            assert (profile.status, bytes(profile.body)) == (200, b"profile")

    run(main())


@pytest.mark.parametrize(
    ("anonymous", "target", "status"),
    [
        (True, b"/healthz", 200),
        (True, PODS, 401),
        (False, PODS + b"/b/proxy/", 200),
        (False, b"/apis/metrics.k8s.io/v1beta1/nodes", 200),
    ],
)
def test_answers_that_show_nothing_of_a_server_do_not_keep_one_that_fails(
    anonymous: bool, target: bytes, status: int
) -> None:
    def behave(exchange: Exchange) -> None:
        answer(exchange, b"{}", 503 if exchange.target == b"/api/v1/nodes" else status)

    async def main() -> None:
        async with stack(outliers=EJECT) as made:
            made.servers[0].behave = behave
            alice = made.client(made.pki.alice)
            other = made.client(None) if anonymous else alice
            for _ in range(EJECT["consecutiveFailures"]):
                assert not ejected(made)
                for client, path in ((other, target), (alice, b"/api/v1/nodes")):
                    opened = await made.open(client, path)
                    await until(partial(_is_over, opened))
            await until(lambda: ejected(made) == 1, "it is ejected")

    run(main())
