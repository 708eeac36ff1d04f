"""Watches and other streams through a whole gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial

import pytest
from gateway.serve.kit import Opened, Stack, answer, run, stack, until
from wharf.wire.client import HttpPool
from wharf.wire.web import Exchange

WATCH = b"/api/v1/pods?watch=1"
LOG = b"/api/v1/namespaces/a/pods/b/log?follow=true"
EVENT = b'{"type":"ADDED"}\n'


def begin(exchange: Exchange) -> None:
    """The head of a stream."""
    exchange.respond(200, [(b"content-type", b"application/json")])


async def watching(made: Stack, client: HttpPool, target: bytes = WATCH) -> Opened:
    made.servers[0].behave = begin
    opened = await made.open(client, target)
    await until(lambda: opened.status == 200, "the head comes before any event")
    return opened


def _holds(opened: Opened, body: bytes) -> bool:
    return bytes(opened.body) == body


def _begun(opened: Sequence[Opened]) -> bool:
    return all(one.status == 200 for one in opened)


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_22_heads_and_chunks_leave_at_once(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            opened = await watching(made, made.client(made.pki.alice, protocol))
            for number in range(1, 4):
                made.servers[0].requests[0].exchange.send(EVENT)
                await until(partial(_holds, opened, EVENT * number))
            made.servers[0].requests[0].exchange.finish()
            await until(lambda: opened.ended)

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_23_logs_follow_by_parts_of_lines_and_end_with_the_server(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            opened = await watching(made, made.client(made.pki.alice, protocol), LOG)
            exchange = made.servers[0].requests[0].exchange
            whole = b""
            for part in (b"a line, ", b"its end\n", b"\xff\x00binary"):
                exchange.send(part)
                whole += part
                await until(partial(_holds, opened, whole))
            exchange.finish()
            await until(lambda: opened.ended)
            assert opened.body == b"a line, its end\n\xff\x00binary"

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_24_a_watch_whose_server_dies_ends_cleanly(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            opened = await watching(made, made.client(made.pki.alice, protocol))
            made.servers[0].requests[0].exchange.send(EVENT)
            await until(lambda: opened.body)
            await made.servers[0].stop()
            await until(lambda: opened.over)
            assert (opened.ended, opened.failure) == (True, None)
            assert opened.body == EVENT

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
@pytest.mark.parametrize("target", [LOG, b"/api/v1/pods"])
def test_edge_24_any_other_truncated_answer_is_aborted(target: bytes, protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            opened = await watching(made, made.client(made.pki.alice, protocol), target)
            made.servers[0].requests[0].exchange.send(b"half a list")
            await until(lambda: opened.body)
            await made.servers[0].stop()
            await until(lambda: opened.over)
            assert not opened.ended
            assert opened.body == b"half a list", "nothing is appended"

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_25_a_client_that_goes_takes_its_stream_with_it(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            client = made.client(made.pki.alice, protocol)
            made.servers[0].behave = begin
            opened = [await made.open(client, WATCH) for _ in range(20)]
            await until(lambda: all(one.status == 200 for one in opened))
            began = time.monotonic()
            for one in opened:
                one.request.reset()
            await until(lambda: all(seen.exchange.done for seen in made.servers[0].requests))
            assert time.monotonic() - began < 5.0
            await until(lambda: not made.gateway.handler.active)
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            assert endpoint.in_flight == 0

    run(main())


def test_edge_25_ten_thousand_cancelled_watches_leave_nothing() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = begin
            for _ in range(20):
                client = made.client(made.pki.alice)  # one connection may not reset so many so fast
                opened = [await made.open(client, WATCH) for _ in range(500)]
                await until(partial(_begun, opened))
                for one in opened:
                    one.request.reset()
                await until(lambda: not made.gateway.handler.active)
            await until(lambda: made.servers[0].web.open_exchanges == 0)
            assert made.gateway.server.open_exchanges == 0
            assert made.gateway.registry.runtimes["prod"].members.endpoints[0].in_flight == 0

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_26_a_reader_that_stops_costs_a_bounded_amount_and_stalls_nobody(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            server = made.servers[0]
            slow = await watching(made, made.client(made.pki.alice, protocol))
            slow.taking = False
            source = server.requests[0].exchange
            sent = 0
            while source.writable and sent < 64 << 20:
                source.send(b"e" * 65536)
                sent += 65536
                await asyncio.sleep(0)
            await until(lambda: not source.writable, "the server's window shuts")
            assert sent < 16 << 20
            server.behave = answer
            client = made.client(made.pki.alice)
            for _ in range(5):
                assert (await made.ask(client)).status == 200

    run(main())


def test_edge_34_short_requests_have_a_limit_and_streams_have_none() -> None:
    async def main() -> None:
        async with stack(timeouts={"head": 0.6}) as made:
            client = made.client(made.pki.alice)
            watch = await watching(made, client)
            made.servers[0].behave = lambda exchange: None
            late = await made.ask(client)
            status = json.loads(late.body)
            assert (late.status, status["reason"]) == (504, "Timeout")
            assert late.header(b"x-wharf-gateway") == b"timeout"
            await until(lambda: made.servers[0].requests[1].exchange.done, "the server is told")
            await asyncio.sleep(0.7)
            made.servers[0].requests[0].exchange.send(EVENT)
            await until(lambda: watch.body == EVENT)
            assert made.gateway.registry.runtimes["prod"].members.endpoints[0].short.in_flight == 0

    run(main())


def test_edge_36_stopping_ends_watches_one_after_the_other_and_cleanly() -> None:
    async def main() -> None:
        async with stack(flags={"drain_watches": 1.0}) as made:
            client, late = made.client(made.pki.alice), made.client(made.pki.alice)
            made.servers[0].behave = begin
            watches = [await made.open(client, WATCH) for _ in range(10)]
            await until(lambda: all(one.status == 200 for one in watches))
            assert not made.gateway.unready()
            draining = asyncio.create_task(made.gateway.drain())
            await until(lambda: made.gateway.unready() == "stopping")
            await until(lambda: sum(one.ended for one in watches) >= 2)
            assert not all(one.ended for one in watches), "spread over the time"
            assert late.stats.connections == 0
            await until(lambda: all(one.ended for one in watches))
            assert [one.failure for one in watches] == [None] * 10
            await draining
            assert not made.gateway.handler.active
            assert made.servers[0].web.open_exchanges == 0

    run(main())


def test_edge_36_what_is_under_way_is_answered_while_stopping() -> None:
    async def main() -> None:
        async with stack() as made:
            client = made.client(made.pki.alice)
            made.servers[0].behave = lambda exchange: None
            opened = await made.open(client, b"/api/v1/namespaces/a/pods/b")
            await until(lambda: made.servers[0].requests)
            draining = asyncio.create_task(made.gateway.drain())
            await until(lambda: client.ready() is None, "the client is told to go elsewhere")
            answer(made.servers[0].requests[0].exchange)
            await until(lambda: opened.ended)
            assert (opened.status, bytes(opened.body)) == (200, b"{}")
            await draining

    run(main())


def test_edge_36_what_does_not_end_is_cut_at_last() -> None:
    async def main() -> None:
        async with stack(flags={"drain_timeout": 0.3}) as made:
            opened = await watching(made, made.client(made.pki.alice), LOG)
            await made.gateway.drain()
            await until(lambda: opened.over)
            assert not opened.ended

    run(main())
