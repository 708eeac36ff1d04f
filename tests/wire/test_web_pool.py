"""Pools on sockets: growth, GOAWAY, rotation, dead peers, bounded waiting."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import RequestFailed, Target, client_context
from wharf.wire.pool import PoolLimits
from wharf.wire.tcp import dial
from wharf.wire.tls import TlsError
from wharf.wire.web import Fault
from wharf.wire.web_server import WEB_LIMITS
from wire.net import eventually
from wire.web_net import App, Sink, make_material, pooled, target_of, web


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    uvloop.run(bounded())


# --- dialling
def test_who_waits_shares_one_dial_and_failure_is_told_to_all() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], "h2") as pool:
            links = await asyncio.gather(*(pool.connect() for _ in range(50)))
            assert len({id(link) for link in links}) == 1
            assert pool.stats.dials == 1
        async with pooled(server.ports[0], "h2") as pool:
            results = await asyncio.gather(*(pool.connect() for _ in range(20)), return_exceptions=True)
            assert {str(result) for result in results} == {f"127.0.0.1:{server.ports[0]}: Connection refused"}
            assert all(isinstance(result, RequestFailed) for result in results)
            assert pool.stats.dial_failures == 1
            assert pool.last_failure is not None
            assert pool.last_failure.fault is Fault.UNSENT

    run(main)


def test_a_name_that_is_none_and_a_certificate_that_is_not_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        material, other = make_material(tmp_path), tmp_path / "other"
        other.mkdir()
        async with web(App(), material.tls) as server:
            port = server.ports[0]
            for target, word in (
                (Target("no.such.name.invalid", 1), "no.such.name.invalid:1: "),
                (target_of(port, "h2", make_material(other)), "TLS: certificate not accepted: "),
                (replace(target_of(port, "h2", material), server_name="other.test"), "Hostname mismatch"),
            ):
                pool = HttpPool(target)
                with pytest.raises(RequestFailed, match=word):
                    await pool.connect()
                await pool.close()
            pool = HttpPool(Target("127.0.0.1", port, client_context(None, insecure=True), "whatever.test"))
            assert (await fetch(pool, b"GET", b"/hello")).status == 200
            await pool.close()
        with pytest.raises(TlsError, match="upstream: CA certificates cannot be used"):
            client_context(b"none")

    run(main)


def test_a_server_without_http2_when_that_is_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        material = make_material(tmp_path)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=material.tls.base(""))
        material.tls.base("").set_alpn_protocols(["http/1.1"])
        async with pooled(server.sockets[0].getsockname()[1], "h2", material) as pool:
            with pytest.raises(RequestFailed, match="does not speak HTTP/2"):
                await pool.connect()
        server.close()
        await server.wait_closed()

    run(main)


def test_a_connection_that_ends_before_its_use_is_dialled_again() -> None:
    """A server that drains, or a balancer with an old list: the next dial may well be served."""

    async def main() -> None:
        accepted = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal accepted
            accepted += 1
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with pooled(server.sockets[0].getsockname()[1], "h2") as pool:
            with pytest.raises(RequestFailed, match="closed by the peer"):
                await pool.connect()
            assert (accepted, pool.stats.dials) == (3, 1)
        server.close()
        await server.wait_closed()

    run(main)


def test_a_dial_is_bounded_and_so_is_waiting() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, says nothing
            limits = PoolLimits(connect_timeout=0.2, pending_max=2)
            async with pooled(mute.getsockname()[1], "h2", limits=limits) as pool:
                started = [asyncio.ensure_future(pool.connect()) for _ in range(3)]
                results = await asyncio.gather(*started, return_exceptions=True)
                assert sorted(str(result).partition(": ")[2] or str(result) for result in results) == [
                    "not connected within 0.2 s",
                    "not connected within 0.2 s",
                    "too many requests wait for a connection",
                ]
                with pytest.raises(RequestFailed, match="no connection in time"):
                    await pool.connect(asyncio.get_running_loop().time() + 0.05)

    run(main)


def test_a_name_with_a_dead_address_is_dialled_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as alive, socket.create_server(("127.0.0.2", 0), backlog=0) as dead:
            fillers = [fill(dead.getsockname()) for _ in range(2)]  # its backlog is full: SYNs are not answered

            async def two(*_: object, **__: object) -> list[Any]:
                return [(2, 1, 6, "", dead.getsockname()), (2, 1, 6, "", alive.getsockname())]

            loop = asyncio.get_running_loop()
            monkeypatch.setattr(loop, "getaddrinfo", two)
            async with asyncio.timeout(5):
                sock = await dial("name.test", 1)
            assert sock.getpeername() == alive.getsockname()
            sock.close()
            for filler in fillers:
                filler.close()

    asyncio.run(main())


def fill(address: Any) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(address)
    return sock


# --- rest
def test_an_idle_connection_closes_but_for_the_last_of_http2() -> None:
    async def main() -> None:
        app = App()
        limits = PoolLimits(idle_http1=0.2, idle_http2=0.2, stall_timeout=0.2, connections_max=3)
        streams = replace(WEB_LIMITS, concurrent_streams=1)
        async with web(app, limits=streams) as server, pooled(server.ports[0], "h2", limits=limits) as pool:
            for _ in range(3):
                Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: len(app.open) == 3)
            assert pool.stats.connections == 3
            for exchange in app.open:
                exchange.finish()
            await eventually(lambda: pool.stats.connections == 1)
            await eventually(lambda: len(server.connections) == 1)
        async with web(app) as server, pooled(server.ports[0], "http1", limits=limits) as pool:
            await asyncio.gather(*(fetch(pool, b"GET", b"/hello") for _ in range(3)))
            await eventually(lambda: pool.stats.connections == 0)
            assert pool.stats.lost == 0

    run(main)


def test_http1_connections_are_used_again() -> None:
    async def main() -> None:
        async with web(App()) as server, pooled(server.ports[0], "http1") as pool:
            for _ in range(20):
                assert (await fetch(pool, b"GET", b"/hello")).status == 200
            assert pool.stats.dials == 1
            await asyncio.gather(*(fetch(pool, b"GET", b"/hello") for _ in range(10)))
            assert pool.stats.dials <= 11

    run(main)


# --- the other end goes away
def test_edge_28_goaway_under_load_fails_no_request(tmp_path: Path) -> None:
    async def main() -> None:
        app = App()
        material = make_material(tmp_path)
        async with web(app, material.tls) as server, pooled(server.ports[0], "h2", material) as pool:
            answered = 0
            stop = asyncio.Event()

            async def load() -> None:
                nonlocal answered
                while not stop.is_set():
                    response = await fetch(pool, b"POST", b"/echo", body=b"x" * 1000)
                    assert response.body == b"x" * 1000
                    answered += 1

            workers = [asyncio.ensure_future(load()) for _ in range(20)]
            for round_ in range(5):
                await eventually(lambda: answered > 200 * (round_ + 1))  # noqa: B023
                server.start_drain()
                await asyncio.sleep(0.01)
                server.finish_drain()
            stop.set()
            await asyncio.gather(*workers)
            assert pool.stats.dials >= 5
            await eventually(lambda: pool.stats.draining == 0)

    run(main)


def test_a_drained_connection_lives_until_its_last_stream_ends() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], "h2") as pool:
            sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data)
            server.start_drain()
            server.finish_drain()
            await eventually(lambda: pool.stats.draining == 1)
            assert (await fetch(pool, b"GET", b"/hello")).status == 200
            assert (pool.stats.connections, pool.stats.draining) == (1, 1)
            app.open[0].send(b"still here\n")
            app.open[0].finish()
            await sink.over.wait()
            assert (sink.failure, bytes(sink.data)) == (None, b"word\nstill here\n")
            await eventually(lambda: pool.stats.draining == 0)

    run(main)


def test_other_limits_count_from_the_next_connection_on() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            limits = PoolLimits(connect_timeout=60.0)
            async with pooled(mute.getsockname()[1], "h2", limits=limits) as pool:
                pool.limits = replace(limits, connect_timeout=0.1, pending_max=1)
                waiting = asyncio.ensure_future(pool.connect())
                await eventually(lambda: pool.stats.dialing == 1)
                with pytest.raises(RequestFailed, match="too many requests wait"):
                    await pool.connect()
                with pytest.raises(RequestFailed, match=r"not connected within 0\.1 s"):
                    await waiting

    run(main)


def test_with_http1_a_failed_dial_is_told_to_who_waits_though_others_hold_connections() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], "http1") as pool:
            sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data)
            server.stop_accepting()
            with pytest.raises(RequestFailed, match="Connection refused"):
                await pool.connect()
            assert sink.failure is None

    run(main)


def test_edge_27_a_half_open_upstream_is_found_by_ping() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server:
            relay = await HoldingRelay.to(server.ports[0])
            limits = PoolLimits(ping_interval=0.2, ping_timeout=0.2)
            async with pooled(relay.port, "h2", limits=limits) as pool:
                sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
                await eventually(lambda: sink.data)
                await asyncio.sleep(1.0)
                assert sink.failure is None, "pings are answered"
                relay.hold()
                await sink.over.wait()
                assert sink.failure is not None
                assert sink.failure.fault is Fault.LOST
                assert pool.stats.lost == 1
            await relay.close()

    run(main)


class HoldingRelay:
    """A TCP relay that can stop relaying without a word, as a broken network does."""

    def __init__(self) -> None:
        self.port = 0
        self._holding = False
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def to(cls, port: int) -> HoldingRelay:
        relay = cls()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            relay._writers += [writer, far_writer]
            for source, sink in ((reader, far_writer), (far_reader, writer)):
                task = asyncio.get_running_loop().create_task(relay._pump(source, sink))
                relay._tasks.add(task)

        relay._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        relay.port = relay._server.sockets[0].getsockname()[1]
        return relay

    _server: asyncio.Server

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self._holding:
                    sink.write(data)

    def hold(self) -> None:
        self._holding = True

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()


def test_edge_29_a_kept_connection_that_closes_as_it_is_used() -> None:
    """The race nobody can win: a server closes an idle connection while a request is on its way to it."""

    async def main() -> None:
        serving = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal serving
            serving += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await reader.readexactly(1)  # the next request has begun: close without an answer
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            serving -= 1

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with pooled(server.sockets[0].getsockname()[1], "http1") as pool:
            assert (await fetch(pool, b"GET", b"/")).body == b"ok"
            with pytest.raises(RequestFailed) as caught:
                await fetch(pool, b"POST", b"/")
            assert caught.value.failure.fault is Fault.LOST, "it may have been processed"
            for _ in range(3):
                assert (await fetch(pool, b"GET", b"/")).body == b"ok", "what does no harm is asked again"
        await eventually(lambda: serving == 0)
        server.close()
        await server.wait_closed()

    run(main)
