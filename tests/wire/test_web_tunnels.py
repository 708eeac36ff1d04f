"""Upgrades through a proxy: opaque bytes both ways, each direction with its own end; refusals word for word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from wharf.wire.client_shell import RequestFailed, Target
from wharf.wire.client_upgrade import UpgradeAsk, open_upgrade
from wharf.wire.limits import ConnectionLimits
from wharf.wire.relay import Relay
from wharf.wire.splice import Splice, join
from wharf.wire.tcp import reset_on_close
from wharf.wire.web import Exchange, Fault, Header, Request, Tunnel
from wharf.wire.web_server import WEB_LIMITS, WebServer
from wire.net import eventually
from wire.web_net import REQUEST_FILTER, RESPONSE_FILTER, App, Material, make_material, refuse, target_of, web

ASK = (
    b"POST /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: v3.channel.k8s.io\r\n"
    b"Content-Length: 0\r\n\r\n"
)
MEGABYTE = 1 << 20


@dataclass(slots=True)
class Upgrader:
    """A proxy that only does upgrades."""

    target: Target
    grace: float = 10.0
    done: list[tuple[Splice, Exception | None]] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __call__(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(exchange))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        exchange.on_cancel = task.cancel  # type: ignore[assignment]

    async def _ask(self, exchange: Exchange) -> None:
        headers = [
            *REQUEST_FILTER.apply(exchange.headers),
            (b"connection", b"Upgrade"),
            (b"upgrade", exchange.header(b"upgrade") or b""),
        ]

        def tunnel(head: list[Header], upstream: Tunnel) -> None:
            join(exchange.upgrade(head), upstream, self.grace, lambda splice, error: self.done.append((splice, error)))

        def response(status: int, head: list[Header], request: Request) -> None:
            Relay(
                exchange, request_filter=REQUEST_FILTER, response_filter=RESPONSE_FILTER, on_done=lambda *_: None
            ).adopt(request, status, head)

        ask = UpgradeAsk(exchange.method, exchange.target, b"upstream.test", headers)
        try:
            await open_upgrade(self.target, ask, on_tunnel=tunnel, on_response=response)
        except RequestFailed as error:
            refuse(exchange, error.failure)


@dataclass(slots=True)
class Line:
    proxy: Upgrader
    front: WebServer
    app: App
    server: WebServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes = ASK) -> bytes:
        """The head of the answer."""
        self.writer.write(request)
        return await self.reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def line(
    material: Material | None = None, grace: float = 10.0, limits: ConnectionLimits = WEB_LIMITS
) -> AsyncIterator[Line]:
    app = App()
    tls = material.tls if material is not None else None
    async with web(app, tls, limits) as server:
        proxy = Upgrader(target_of(server.ports[0], "http1", material), grace)
        async with web(proxy, tls, limits) as front:
            context = material.client("http1") if material is not None else None
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", front.ports[0], ssl=context, server_hostname="localhost" if context else None
            )
            async with asyncio.timeout(30):
                yield Line(proxy, front, app, server, reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await eventually(lambda: not proxy.tasks)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(main())


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def material(request: pytest.FixtureRequest, tmp_path: Path) -> Material | None:
    return make_material(tmp_path) if request.param else None


def test_edge_30_32_a_tunnel_carries_every_byte(material: Material | None) -> None:
    sent = os.urandom(8 * MEGABYTE)

    async def main() -> None:
        async with line(material) as at:
            at.writer.write(ASK + sent[:1000])  # in the same packet as the head
            head = await at.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: spdy/3.1" in head.lower()
            at.writer.write(sent[1000:])
            assert await at.reader.readexactly(len(sent)) == sent
            at.writer.close()
            await eventually(lambda: at.proxy.done)
            ((splice, error),) = at.proxy.done
            assert (splice.bytes_a, splice.bytes_b, error) == (len(sent), len(sent), None)

    run(main)


def test_edge_31_repeated_lines_stay_lines(material: Material | None) -> None:
    async def main() -> None:
        async with line(material) as at:
            await at.ask()
            headers = at.app.seen[0].headers
            assert [value for name, value in headers if name == b"x-stream-protocol-version"] == [
                b"v4.channel.k8s.io",
                b"v3.channel.k8s.io",
            ]

    run(main)


def test_edge_32_half_close_goes_through_and_the_other_direction_goes_on() -> None:
    async def main() -> None:
        async with line() as at:
            await at.ask()
            sent = os.urandom(4 * MEGABYTE)
            at.writer.write(sent)
            at.writer.write_eof()
            assert await at.reader.read(-1) == sent
            await eventually(lambda: at.proxy.done)
            assert at.proxy.done[0][1] is None

    run(main)


def test_edge_32_an_end_by_tls_ends_both_directions(tmp_path: Path) -> None:
    """What TLS transports cannot do: read on after the peer's close_notify. What was sent before it arrives."""

    async def main() -> None:
        async with line(make_material(tmp_path)) as at:
            await at.ask()
            at.writer.write(b"last words")
            assert await at.reader.readexactly(10) == b"last words"
            at.writer.close()
            await eventually(lambda: at.proxy.done)
            await eventually(lambda: at.server.open_exchanges == 0)

    run(main)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_edge_32_half_close_towards_a_tls_upstream(tmp_path: Path, runner: Callable[..., None]) -> None:
    """The upstream hears close_notify, and what it says after that arrives."""
    material = make_material(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> bytes:
        heard = b""
        with listener, material.tls.base("127.0.0.1").wrap_socket(listener.accept()[0], server_side=True) as peer:
            while b"\r\n\r\n" not in heard:
                heard += peer.recv(65536)
            peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            while piece := peer.recv(65536):
                heard += piece
            for _ in range(64):
                peer.sendall(bytes(16384))
        return heard.partition(b"\r\n\r\n")[2]

    async def main() -> None:
        serving = asyncio.get_running_loop().run_in_executor(None, serve)
        got = bytearray()
        closed = asyncio.Event()

        def tunnel_came(_: list[Header], tunnel: Tunnel) -> None:
            tunnel.on_data = got.extend
            tunnel.on_closed = lambda _: closed.set()
            tunnel.write(b"stdin" * 100_000)
            tunnel.write_eof()

        ask = UpgradeAsk(b"POST", b"/", b"a", [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")])
        target = target_of(listener.getsockname()[1], "http1", material)
        async with asyncio.timeout(10):
            await open_upgrade(target, ask, on_tunnel=tunnel_came, on_response=never)
            assert await serving == b"stdin" * 100_000
            await closed.wait()
        assert len(got) == MEGABYTE

    runner(main())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_edge_32_nothing_is_lost_when_a_tls_upstream_ends_while_reading_pauses(
    tmp_path: Path, runner: Callable[..., None]
) -> None:
    """A slow reader of the last megabytes: the end must not overtake them."""
    material = make_material(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    total = 4 * MEGABYTE

    def serve() -> None:
        with listener, material.tls.base("127.0.0.1").wrap_socket(listener.accept()[0], server_side=True) as peer:
            while not peer.recv(65536).endswith(b"\r\n\r\n"):
                pass
            peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            peer.sendall(bytes(total))
            peer.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.unwrap()  # close_notify, and at once the end of TCP

    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving = loop.run_in_executor(None, serve)
        got = bytearray()
        closed = asyncio.Event()

        def tunnel_came(_: list[Header], tunnel: Tunnel) -> None:
            def slow(data: bytes) -> None:
                got.extend(data)
                tunnel.pause_reading()
                loop.call_later(0.005, tunnel.resume_reading)

            tunnel.on_data = slow
            tunnel.on_closed = lambda _: closed.set()

        ask = UpgradeAsk(b"POST", b"/", b"a", [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")])
        target = target_of(listener.getsockname()[1], "http1", material)
        async with asyncio.timeout(20):
            await open_upgrade(target, ask, on_tunnel=tunnel_came, on_response=never)
            await closed.wait()
            await serving
        assert len(got) == total

    runner(main())


def test_edge_33_a_refusal_comes_word_for_word(material: Material | None) -> None:
    async def main() -> None:
        async with line(material) as at:
            head = await at.ask(ASK.replace(b"/upgrade", b"/early"))
            assert head.startswith(b"HTTP/1.1 413 ")
            assert await at.reader.readexactly(5) == b"large"
            await eventually(lambda: at.server.connections == set())

    run(main)


def test_edge_32_a_reader_that_waits_holds_the_writer_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        """However long it waits: there is no time limit on somebody at a terminal."""
        async with line(limits=replace(WEB_LIMITS, stall_timeout=0.2)) as at:
            await at.ask()
            total = 64 * MEGABYTE
            writing = asyncio.ensure_future(pour(at.writer, total))
            await asyncio.sleep(1.0)
            assert not writing.done()
            held = [connection.session.held for connection in (*at.front.connections, *at.server.connections)]  # type: ignore[union-attr]
            assert max(held) < MEGABYTE
            assert max(connection.unsent for connection in at.front.connections) < MEGABYTE
            left = total
            while left:
                left -= len(await at.reader.read(MEGABYTE))
            await writing

    run(main)


async def pour(writer: asyncio.StreamWriter, total: int) -> None:
    for _ in range(total // 65536):
        writer.write(bytes(65536))
        await writer.drain()


def test_a_direction_that_has_ended_bounds_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with line(grace=0.2) as at:
            await at.ask(ASK.replace(b"/upgrade", b"/keep"))
            at.writer.write_eof()
            assert await at.reader.read(-1) == b""
            await eventually(lambda: at.proxy.done)

    def keep(self: App, exchange: Exchange) -> None:
        """Never ends."""
        exchange.upgrade([(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1")]).on_data = lambda _: None

    monkeypatch.setattr(App, "do_keep", keep, raising=False)
    run(main)


def test_a_client_that_goes_away_before_the_answer(material: Material | None) -> None:
    async def main() -> None:
        async with line(material) as at:
            at.writer.write(ASK.replace(b"/upgrade", b"/silent"))
            await eventually(lambda: at.app.open)
            reset_on_close(at.writer.get_extra_info("socket"))
            at.writer.transport.abort()
            await eventually(lambda: at.app.cancelled == 1)

    run(main)


def test_a_cut_upstream_cuts_the_client() -> None:
    async def main() -> None:
        async with line() as at:
            await at.ask()
            at.server.abort_all()
            with contextlib.suppress(ConnectionResetError):
                assert await at.reader.read(-1) == b""
            await eventually(lambda: at.proxy.done)

    run(main)


def test_no_answer_in_time_and_nobody_there(material: Material | None) -> None:
    async def main() -> None:
        app = App()
        async with web(app, material.tls if material else None) as server:
            target = target_of(server.ports[0], "http1", material)
            ask = UpgradeAsk(b"GET", b"/silent", b"a", [(b"connection", b"Upgrade"), (b"upgrade", b"x")])
            with pytest.raises(RequestFailed) as caught:
                await open_upgrade(target, ask, on_tunnel=never, on_response=never, timeout=0.2)
            assert caught.value.failure.fault is Fault.TIMEOUT
            await eventually(lambda: app.cancelled == 1)
        with pytest.raises(RequestFailed) as caught:
            await open_upgrade(target, ask, on_tunnel=never, on_response=never)
        assert caught.value.failure.fault is Fault.UNSENT
        with pytest.raises(ValueError, match=r"HTTP/1\.1"):
            await open_upgrade(target_of(1, "h2"), ask, on_tunnel=never, on_response=never)

    run(main)


def never(*_: object) -> None:
    pytest.fail("nothing was to come")
