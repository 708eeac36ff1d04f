"""A mount of a gRPC server: answers in pieces over HTTP/1.1 and HTTP/2, with their bounds and their ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import ProtocolName
from wharf.wire.http import HttpExchange, HttpResponse, Mount
from wharf.wire.limits import ConnectionLimits
from wharf.wire.server import GrpcServer, ListenerConfig
from wire.net import eventually
from wire.web_net import Sink, pooled

BODY_MAX = 200_000
PIECE = bytes(64 * 1024)
PROTOCOLS: tuple[ProtocolName, ...] = ("http1", "h2")


class App:
    """Keeps the exchanges it is given; what they are answered is the test's affair."""

    def __init__(self) -> None:
        self.exchanges: list[HttpExchange] = []
        self.canceled = 0
        self.drained = 0

    def __call__(self, exchange: HttpExchange) -> None:
        if exchange.request.path == "/m/fail":
            raise LookupError("a secret")
        self.exchanges.append(exchange)
        exchange.on_cancel = self._cancel
        exchange.on_drain = self._drain
        if exchange.request.path == "/m/echo":
            exchange.respond(HttpResponse(201, exchange.request.body))
        elif exchange.request.path == "/m/stream":
            exchange.open(200, ((b"content-type", b"text/plain"),))
            exchange.send(b"one\n")

    def _cancel(self) -> None:
        self.canceled += 1

    def _drain(self) -> None:
        self.drained += 1


@contextlib.asynccontextmanager
async def mounted(limits: ConnectionLimits | None = None) -> AsyncIterator[tuple[App, GrpcServer]]:
    app = App()
    server = GrpcServer({}, [ListenerConfig()], mount=Mount("/m/", app, BODY_MAX), limits=limits)
    await server.start()
    try:
        yield app, server
    finally:
        await server.close()


async def ask(pool: HttpPool, path: bytes, body: bytes = b"", *, greedy: bool = True) -> Sink:
    """A POST whose answer is read as it comes."""
    link = await pool.connect()
    headers = [(b"content-length", b"%d" % len(body))]
    sink = Sink(link.request(b"POST", path, b"a.test", headers, end=not body), greedy=greedy)
    if body:
        sink.request.send(body)
        sink.request.finish()
    return sink


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    uvloop.run(bounded())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_mounted_handler_gets_whole_requests_up_to_its_own_bound(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            for size in (0, 70_000, BODY_MAX):  # a plain endpoint takes 64 KiB
                sink = await ask(pool, b"/m/echo", b"x" * size)
                await sink.over.wait()
                assert (sink.status, bytes(sink.data)) == (201, b"x" * size)
            sink = await ask(pool, b"/m/echo", b"x" * (BODY_MAX + 1))
            await sink.head.wait()
            assert sink.status == 413
            assert len(app.exchanges) == 3

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_paths_outside_of_the_mount_keep_their_handler_and_bound(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m")
            await sink.over.wait()
            assert sink.status == 415
            sink = await ask(pool, b"/other", b"x" * 70_000)
            await sink.head.wait()
            assert sink.status == 413
            assert app.exchanges == []

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_response_comes_in_pieces_and_ends(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m/stream")
            await eventually(lambda: sink.data)
            assert (sink.status, bytes(sink.data)) == (200, b"one\n")
            assert not sink.over.is_set()
            (exchange,) = app.exchanges
            exchange.send(b"two\n")
            exchange.finish()
            await sink.over.wait()
            assert (bytes(sink.data), sink.failure) == (b"one\ntwo\n", None)
            exchange.send(b"three\n")
            exchange.finish()
            assert (app.canceled, exchange.done) == (0, True)
            sink = await ask(pool, b"/m/echo", b"again")
            await sink.over.wait()
            assert bytes(sink.data) == b"again"

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_leaves_cancels_its_exchange_once(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            for path in (b"/m/stream", b"/m/never"):
                sink = await ask(pool, path)
                await eventually(lambda: app.exchanges)
                exchange = app.exchanges.pop()
                sink.request.reset()
                await eventually(lambda: app.canceled)
                assert (app.canceled, exchange.done) == (1, True)
                exchange.send(b"late")
                exchange.finish()
                app.canceled = 0

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reader_that_stands_still_ends_writable_and_drains(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m/stream", greedy=False)
            await eventually(lambda: app.exchanges)
            (exchange,) = app.exchanges
            sent = 4
            while exchange.writable:
                exchange.send(PIECE)
                sent += len(PIECE)
                assert sent < 64 * 1024 * 1024
                await asyncio.sleep(0)
            assert app.drained == 0
            sink.greedy = True
            sink.take_all()
            await eventually(lambda: app.drained)
            assert exchange.writable
            exchange.finish()
            await sink.over.wait()
            assert sink.size == sent

    run(main)


def test_an_answer_under_way_is_not_idle_and_an_unfinished_request_is() -> None:
    async def main() -> None:
        limits = replace(ConnectionLimits(), http1_idle_timeout=0.4)
        async with mounted(limits) as (app, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            writer.write(b"POST /m/stream HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            slow, stuck = await asyncio.open_connection("127.0.0.1", server.ports[0])
            stuck.write(b"POST /m/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
            assert await slow.read() == b""  # closed as idle; by then the other has been quiet for as long
            app.exchanges[0].send(b"two\n")
            await reader.readuntil(b"two\n")
            assert app.canceled == 0
            for each in (writer, stuck):
                each.close()

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_draining_lets_an_answer_end_and_then_cuts_off(protocol: ProtocolName) -> None:
    async def main() -> None:
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m/stream")
            await sink.head.wait()
            draining = asyncio.create_task(server.drain(20.0))
            await eventually(lambda: not server.listening)
            app.exchanges[0].send(b"two\n")
            app.exchanges[0].finish()
            await sink.over.wait()
            assert (bytes(sink.data), sink.failure) == (b"one\ntwo\n", None)
            await draining
        async with mounted() as (app, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m/stream")
            await sink.head.wait()
            await server.drain(0.05)
            await sink.over.wait()
            assert sink.failure is not None
            assert (app.canceled, app.exchanges[0].done) == (1, True)

    run(main)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_mounted_handler_that_raises_is_answered_for(
    protocol: ProtocolName, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with mounted() as (_, server), pooled(server.ports[0], protocol) as pool:
            sink = await ask(pool, b"/m/fail")
            await sink.over.wait()
            assert sink.status == 500
            assert b"secret" not in sink.data

    run(main)
    assert "/m/fail failed" in caplog.text


def test_bodies_of_one_http2_connection_share_a_bound() -> None:
    async def main() -> None:
        limits = replace(ConnectionLimits(), assembling_max=BODY_MAX)
        async with mounted(limits) as (app, server), pooled(server.ports[0], "h2") as pool:
            link = await pool.connect()
            held = Sink(link.request(b"POST", b"/m/echo", b"a.test", [], end=False))
            held.request.send(b"x" * 150_000)
            await eventually(lambda: server.totals().bytes_in > 150_000)
            refused = Sink(link.request(b"POST", b"/m/echo", b"a.test", [], end=False))
            refused.request.send(b"x" * 150_000)
            await refused.head.wait()
            assert refused.status == 503
            held.request.finish()
            await held.over.wait()
            assert (held.status, held.size) == (201, 150_000)
            again = await ask(pool, b"/m/echo", b"x" * 150_000)
            await again.over.wait()
            assert again.status == 201
            assert len(app.exchanges) == 2

    run(main)
