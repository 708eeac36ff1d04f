"""Server, pool and relay on real sockets, in every mixture of HTTP/1.1, HTTP/2 and TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import ProtocolName
from wharf.wire.tcp import tune
from wharf.wire.web import Fault
from wharf.wire.web_server import WebServer
from wire.net import ask_raw, eventually
from wire.web_net import App, Material, Proxy, Sink, make_material, pooled, web

Pair = tuple[ProtocolName, ProtocolName, str]  # the client's, the upstream's, and whether the short way is taken
PAIRS: list[Pair] = [
    ("http1", "http1", ""),
    ("http1", "h2", ""),
    ("h2", "http1", ""),
    ("h2", "h2", ""),
    ("h2", "h2", "short"),
]
MEGABYTE = 1 << 20


@dataclass(slots=True)
class Chain:
    """client pool → proxy → upstream pool → application"""

    client: HttpPool
    front: WebServer
    proxy: Proxy
    upstream: HttpPool
    app: App
    server: WebServer


@asynccontextmanager
async def chain(pair: Pair, material: Material | None = None, *, clean_end: bool = False) -> AsyncIterator[Chain]:
    app = App()
    tls = material.tls if material is not None else None
    async with (
        web(app, tls) as server,
        pooled(server.ports[0], pair[1], material) as upstream,
        web(Proxy(upstream, clean_end, bool(pair[2])), tls) as front,
        pooled(front.ports[0], pair[0], material) as client,
    ):
        proxy = front.handler
        assert isinstance(proxy, Proxy)
        async with asyncio.timeout(60):
            yield Chain(client, front, proxy, upstream, app, server)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(main())


@pytest.fixture(params=PAIRS, ids=["-".join(filter(None, pair)) for pair in PAIRS])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_requests_of_all_shapes(pair: Pair, tls: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with chain(pair, make_material(tmp_path) if tls else None) as of:
            hello = await fetch(of.client, b"GET", b"/hello?a=%2F&b=+;c", authority=b"front.test")
            assert (hello.status, hello.body) == (200, b"hello upstream.test")
            assert hello.header(b"x-proxy") == b"yes"
            assert hello.header(b"x-version") == (b"2" if pair[1] == "h2" else b"1")
            echo = await fetch(of.client, b"POST", b"/echo", body=b"x" * 100_000)
            assert echo.body == b"x" * 100_000
            empty = await fetch(of.client, b"POST", b"/echo")
            assert (empty.status, empty.body) == (200, b"")
            for status in (204, 304, 404):
                response = await fetch(of.client, b"GET", b"/status/%d" % status)
                assert (response.status, response.body, response.header(b"x-kind")) == (status, b"", b"status")
            head = await fetch(of.client, b"HEAD", b"/bytes/1000")
            assert (head.status, head.header(b"content-length"), head.body) == (200, b"1000", b"")
            early = await fetch(of.client, b"PUT", b"/early", body=b"x" * 50_000)
            assert (early.status, early.body) == (413, b"large")
            interim = await fetch(of.client, b"GET", b"/interim")
            assert interim.body == b"hello upstream.test"
            assert all(failure is None for _, failure in of.proxy.done)

    run(main)


def test_edge_15_17_18_headers_and_target_go_through_untouched(pair: Pair) -> None:
    async def main() -> None:
        async with chain(pair) as of:
            sent = [
                (b"user-agent", b"test/1 (x)"),
                (b"accept", b"a/b;q=0.5, c/d"),
                (b"x-twice", b"1"),
                (b"x-twice", b"2"),
                (b"x-empty", b""),
                (b"te", b"trailers"),
            ]
            target = b"/headers/a%2Fb//c/?x=%20&y=+;z&x=1&e="
            response = await fetch(of.client, b"GET", target, sent)
            lines = response.body.split(b"\n")
            assert lines[0] == b"GET " + target
            arrived = [line for line in lines[1:] if not line.startswith((b"host:", b"content-length:"))]
            assert arrived == [
                b"user-agent: test/1 (x)",
                b"accept: a/b;q=0.5, c/d",
                b"x-twice: 1",
                b"x-twice: 2",
                b"x-empty: ",
                b"te: trailers",
                b"x-added: 1",
            ]
            assert [value for name, value in response.headers if name == b"warning"] == [b"one", b"two"]
            assert response.header(b"x-empty") == b""

    run(main)


@pytest.mark.parametrize("to", ["http1", "h2"])
def test_edge_2_17_what_connection_names_stays_here(to: ProtocolName) -> None:
    async def main() -> None:
        async with chain(("http1", to, "")) as of:
            answer = await ask_raw(
                of.front.ports[0],
                b"GET /headers HTTP/1.1\r\nHost: a\r\nConnection: x-gone , Close\r\nX-Gone: 1\r\nKeep-Alive: 5\r\n"
                b"connection: X-Too\r\nx-too: 1\r\nX-Stays: 1\r\n\r\n",
            )
            assert b"x-stays: 1" in answer
            for gone in (b"x-gone", b"x-too", b"keep-alive: 5"):
                assert gone not in answer.lower()

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_edge_26_large_bodies_and_a_slow_reader(
    pair: Pair, tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 MB up and back: while nobody reads, little moves; then all of it comes."""
    total = 50 * MEGABYTE
    monkeypatch.setattr("wharf.wire.session_shell.tune", tune_small)

    async def main() -> None:
        async with chain(pair, make_material(tmp_path) if tls else None) as of:
            link = await of.client.connect()
            request = link.request(b"POST", b"/echo", b"a", [(b"content-length", b"%d" % total)], end=False)
            sink = Sink(request, greedy=False)
            left = total

            def send() -> None:
                nonlocal left
                while left and request.writable:
                    left -= 65536
                    request.send(bytes(65536))
                if not left:
                    request.finish()

            request.on_drain = send
            send()
            await sink.head.wait()
            await settled(lambda: (sink.size, of.app.uploaded, left))
            on_the_way = total - left
            assert on_the_way < 10 * MEGABYTE, "nobody reads, so what is on the way is bounded"
            sink.greedy = True
            sink.take_all()
            await sink.over.wait()
            assert (sink.size, sink.failure) == (total, None)

    run(main)


def tune_small(sock: Any, user_timeout: float) -> None:
    """Kernel buffers that do not hide what this side buffers."""
    tune(sock, user_timeout)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)


async def settled(measure: Callable[[], object]) -> None:
    """Wait until nothing changes for a while."""
    before: object = None
    while before != (before := measure()):  # noqa: ASYNC110 - that something does not happen has no event
        await asyncio.sleep(0.3)


def test_edge_17_trailers(pair: Pair) -> None:
    async def main() -> None:
        async with chain(pair) as of:
            link = await of.client.connect()
            request = link.request(b"POST", b"/echo", b"a", [(b"te", b"trailers")], end=False)
            sink = Sink(request)
            request.send(b"body")
            request.finish([(b"x-sum", b"1")])
            await sink.over.wait()
            assert (bytes(sink.data), sink.trailers) == (b"body", [(b"x-sum", b"1")])

    run(main)


def test_edge_22_a_watch_begins_at_once_and_each_chunk_comes_by_itself(pair: Pair) -> None:
    async def main() -> None:
        async with chain(pair) as of:
            sink = Sink((await of.client.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data == b"word\n")
            for number in range(3):
                of.app.open[0].send(b"event %d\n" % number)
                await eventually(lambda: sink.data.endswith(b"event %d\n" % number))  # noqa: B023
            of.app.open[0].finish()
            await sink.over.wait()
            assert sink.failure is None

    run(main)


@pytest.mark.parametrize("clean_end", [True, False])
def test_edge_24_an_upstream_that_dies_in_a_response(pair: Pair, clean_end: bool) -> None:
    async def main() -> None:
        async with chain(pair, clean_end=clean_end) as of:
            sink = Sink((await of.client.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data == b"word\n")
            of.server.abort_all()
            await sink.over.wait()
            assert (sink.failure is None) is clean_end
            ((_, failure),) = of.proxy.done
            assert failure is not None
            assert failure.fault is Fault.LOST

    run(main)


def test_edge_25_a_client_that_goes_away_takes_its_upstream_request_along(pair: Pair) -> None:
    async def main() -> None:
        async with chain(pair) as of:
            for target in (b"/hold", b"/silent"):
                before = of.app.cancelled
                request = (await of.client.connect()).request(b"GET", target, b"a", [])
                sink = Sink(request)
                await eventually(lambda: len(of.app.open) == before + 1)  # noqa: B023
                if target == b"/hold":
                    await sink.head.wait()
                request.reset()
                await eventually(lambda: of.app.cancelled == before + 1)  # noqa: B023
                await eventually(lambda: of.upstream.stats.open_requests == 0)
                assert [relay.cancelled for relay, _ in of.proxy.done] == [True] * (before + 1)

    run(main)


def test_edge_25_cancelled_watches_leave_nothing(pair: Pair) -> None:
    count = 1000 if pair[:2] == ("h2", "h2") else 100  # HTTP/1.1: as many connections

    async def main() -> None:
        async with chain(pair) as of:
            requests = []
            for _ in range(count):
                requests.append((await of.client.connect()).request(b"GET", b"/hold", b"a", []))
                Sink(requests[-1])
            await eventually(lambda: len(of.app.open) == count)
            for request in requests:
                request.reset()
            await eventually(lambda: of.app.cancelled == count)
            await eventually(lambda: of.upstream.stats.open_requests == 0)
            await eventually(lambda: of.front.open_exchanges == 0)
            assert (await fetch(of.client, b"GET", b"/hello")).status == 200

    run(main)


def test_edge_16_expect_is_answered_when_reading_begins(pair: Pair) -> None:
    async def main() -> None:
        async with chain(pair) as of:
            request = (await of.client.connect()).request(
                b"POST", b"/echo", b"a", [(b"expect", b"100-continue"), (b"content-length", b"4")], end=False
            )
            sink = Sink(request)
            await eventually(lambda: sink.informed == [100])
            request.send(b"body")
            request.finish()
            await sink.over.wait()
            assert sink.data == b"body"
            assert of.app.seen[0].header(b"expect") is None

    run(main)
