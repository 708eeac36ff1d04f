"""Protection from large lists: no query gets more than the policy lets through, and what servers do decides."""

from __future__ import annotations

from typing import Any

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until

PODS = b"/api/v1/pods"
SIZE = 5_000


def costly(**lists: Any) -> dict[str, Any]:
    """A list of SIZE bytes costs 6 tokens; 8 are there."""
    return {
        "policies": [{"name": "all", "flowControl": ["tokens"], "lists": {"costPerBytes": 1000} | lists}],
        "flowControl": {"schemas": [{"name": "tokens", "qps": 0.001, "burst": 8}]},
    }


async def status_of(made: Stack, target: bytes) -> int:
    return (await made.ask(made.client(made.pki.alice), target)).status


@pytest.mark.parametrize(
    "query", [b"limit=0", b"continue=", b"limit=100000", b"lim%69t=0", b"limit=500&resourceVersion=0"]
)
def test_a_list_that_the_server_answers_whole_costs_what_it_weighs(query: bytes) -> None:
    async def main() -> None:
        async with stack(**costly()) as made:
            made.servers[0].behave = lambda exchange: answer(exchange, bytes(SIZE))
            target = PODS + b"?" + query
            assert await status_of(made, PODS) == 200  # 1: nothing is known of it yet
            assert await status_of(made, target) == 200  # 6
            assert await status_of(made, target) == 429
            assert await status_of(made, PODS + b"?limit=500") == 200  # a page costs 1, so the token that was left

    run(main())


def test_pages_cost_one_token_each() -> None:
    async def main() -> None:
        async with stack(**costly()) as made:
            made.servers[0].behave = lambda exchange: answer(exchange, bytes(SIZE))
            codes = [await status_of(made, PODS + b"?limit=500&continue=%d" % page) for page in range(9)]
            assert codes == [200] * 8 + [429]

    run(main())


def test_a_list_that_its_client_cuts_is_no_cheaper_the_next_time() -> None:
    async def main() -> None:
        async with stack(**costly()) as made:
            server = made.servers[0]

            def begin(exchange: Any) -> None:
                exchange.respond(200, [])
                exchange.send(bytes(SIZE))

            server.behave = begin
            opened = await made.open(made.client(made.pki.alice), PODS)
            await until(lambda: len(opened.body) == SIZE)
            opened.request.reset()
            await until(lambda: not made.gateway.handler.active)
            server.behave = answer
            assert await status_of(made, PODS) == 200  # 6
            assert await status_of(made, PODS) == 429

    run(main())


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        (b"", b"?limit=50"),
        (b"?limit=0", b"?limit=50"),
        (b"?lim%69t=0&labelSelector=a", b"?limit=50&labelSelector=a"),
        (b"?limit=100000", b"?limit=50"),
        (b"?continue=", b"?continue=&limit=50"),
        (b"?continue=abc", b"?continue=abc&limit=50"),
        (b"?limit=500&resourceVersion=0", b"?limit=500&resourceVersion=0"),
        (b"?limit=20", b"?limit=20"),
    ],
)
def test_the_server_gets_a_limit_that_it_heeds(query: bytes, sent: bytes) -> None:
    async def main() -> None:
        async with stack(policies=[{"name": "all", "lists": {"injectLimit": 50}}]) as made:
            assert await status_of(made, PODS + query) == 200
            assert made.servers[0].requests[0].target == PODS + sent

    run(main())


def test_a_page_that_the_gateway_asked_for_says_nothing_about_the_whole_list() -> None:
    async def main() -> None:
        async with stack(**costly(injectLimit=50)) as made:
            server = made.servers[0]
            server.behave = lambda exchange: answer(exchange, bytes(SIZE if b"limit" not in exchange.target else 10))
            cached = PODS + b"?resourceVersion=0"
            assert await status_of(made, cached) == 200  # 1
            for _ in range(3):
                assert await status_of(made, PODS) == 200  # 1: a page
            assert await status_of(made, cached) == 429  # 6, and 4 are left

    run(main())
