"""A web server's life on sockets: which protocol, who is there, what is not waited for, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import ProtocolName, Target, client_context
from wharf.wire.h2 import PREFACE
from wharf.wire.limits import ListenerLimits
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.tls import ClientAuth
from wharf.wire.web import Exchange
from wharf.wire.web_server import WEB_LIMITS, WebListener, WebServer
from wire.net import ask_raw, eventually
from wire.pki import Authority, Files
from wire.web_net import App, Sink, make_material, pooled, target_of, web

GET = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"
GET_CLOSE = b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    uvloop.run(bounded())


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# --- which protocol
def test_one_port_tells_http2_from_http1_by_the_first_bytes() -> None:
    async def main() -> None:
        async with web(App()) as server:
            port = server.ports[0]
            assert (await ask_raw(port, GET_CLOSE)).startswith(b"HTTP/1.1 200 OK\r\n")
            async with pooled(port, "h2") as pool:
                assert (await fetch(pool, b"GET", b"/hello")).header(b"x-version") == b"2"
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for piece in (PREFACE[:2], PREFACE[2:], b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"):
                writer.write(piece)
                await writer.drain()
            assert (await reader.readexactly(9))[3] == 4, "SETTINGS answer the preface"
            writer.close()
            await writer.wait_closed()

    run(main)


def test_edge_13_alpn_gives_what_the_client_can(tmp_path: Path) -> None:
    async def main() -> None:
        material = make_material(tmp_path)
        async with web(App(), material.tls) as server:
            protocols: list[tuple[ProtocolName, bytes]] = [("auto", b"2"), ("h2", b"2"), ("http1", b"1")]
            for protocol, version in protocols:
                async with pooled(server.ports[0], protocol, material) as pool:
                    assert (await fetch(pool, b"GET", b"/hello")).header(b"x-version") == version
            without_alpn = ssl.create_default_context(cafile=material.ca.ca_file)
            answer = await ask_raw(server.ports[0], GET_CLOSE, without_alpn, "localhost")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")

    run(main)


def test_ipv6() -> None:
    async def main() -> None:
        server = WebServer(App(), [WebListener(host="::1")])
        await server.start()
        pool = HttpPool(Target("::1", server.ports[0], protocol="h2"))
        response = await fetch(pool, b"GET", b"/hello")
        assert response.body == b"hello [::1]:%d" % server.ports[0]
        assert next(iter(server.connections)).local_address == f"[::1]:{server.ports[0]}"
        await pool.close()
        await server.close()

    run(main)


def test_the_wrong_protocol_is_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with web(App(), make_material(tmp_path).tls) as server:
            answer = await ask_raw(server.ports[0], GET)
            assert b"400 Bad Request" in answer
            assert b"This port speaks TLS" in answer
        async with web(App()) as server:
            assert await ask_raw(server.ports[0], b"\x16\x03\x01\x02\x00\x01") == b""
            assert server.counters.wrong_protocol == 1
            assert b" 505 HTTP Version" in await ask_raw(server.ports[0], b"HELO there\r\n\r\n")
            await eventually(lambda: server.counters.protocol_errors == 1)

    run(main)
    assert "speaks TLS to a port without TLS" in caplog.text


# --- who is there
def who(exchange: Exchange) -> None:
    """Answers with who is at the other end, and how it was met."""
    connection: Any = exchange.connection
    certificate = connection.peer.certificate
    name = f"{certificate.common_name}:{','.join(certificate.organizations)}" if certificate else "nobody"
    body = f"{name}|{connection.peer.server_name}|{connection.identity}|{len(connection.trust)}".encode()
    exchange.respond(200, [(b"content-length", b"%d" % len(body))])
    exchange.send(body)
    exchange.finish()


def pems(files: Files) -> tuple[bytes, bytes]:
    return Path(files.cert).read_bytes(), Path(files.key).read_bytes()


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_edge_6_the_handler_knows_the_client_and_the_identity_it_was_met_with(
    ca: Authority, tmp_path: Path, protocol: ProtocolName
) -> None:
    clients = Authority(tmp_path, "clients")
    ca_pem = Path(ca.ca_file).read_bytes()

    def identity(name: str, auth: ClientAuth) -> Identity:
        ca_pem = Path(clients.ca_file).read_bytes()
        return Identity(name, *pems(ca.issue(name, name)), ca_pem, auth, names=(name,))

    async def ask(port: int, name: str, *, certificate: bool) -> str:
        pair = pems(clients.issue("alice", organizations=("b", "a"))) if certificate else (b"", b"")
        context = client_context(ca_pem, *pair, protocol=protocol)
        pool = HttpPool(replace(target_of(port, protocol), tls=context, server_name=name))
        try:
            return (await fetch(pool, b"GET", b"/")).body.decode()
        finally:
            await pool.close()

    async def main() -> None:
        tls = DynamicTls(Identity("default", *pems(ca.issue("default"))))
        tls.replace([identity("one.test", ClientAuth.OPTIONAL), identity("two.test", ClientAuth.REQUIRE)])
        async with web(who, tls) as server:
            port = server.ports[0]
            assert await ask(port, "one.test", certificate=True) == "alice:b,a|one.test|one.test|32"
            assert await ask(port, "one.test", certificate=False) == "nobody|one.test|one.test|32"
            assert await ask(port, "two.test", certificate=True) == "alice:b,a|two.test|two.test|32"
            assert await ask(port, "localhost", certificate=True) == "nobody|localhost|default|0"

    run(main)


# --- what is not waited for
@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"", "preface_timeout"),
        (b"PR", "preface_timeout"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx-slow", "block_timeout"),
        (PREFACE, "preface_timeout"),
        (PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "idle_timeout"),
    ],
)
def test_a_slow_client_is_cut(said: bytes, limit: str) -> None:
    async def main() -> None:
        async with web(App(), limits=replace(WEB_LIMITS, **{limit: 0.2})) as server:  # type: ignore[arg-type]
            await ask_raw(server.ports[0], said)
            await eventually(lambda: not server.connections)

    run(main)


@pytest.mark.parametrize("said", [b"", b"\r\n"])
@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_silent_tls_client_is_cut_at_the_preface_timeout_whatever_it_negotiated(
    tmp_path: Path, said: bytes, alpn: str
) -> None:
    material = make_material(tmp_path)

    async def main() -> None:
        async with web(App(), material.tls, replace(WEB_LIMITS, preface_timeout=0.2)) as server:
            context = ssl.create_default_context(cafile=material.ca.ca_file)
            context.set_alpn_protocols([alpn])
            await ask_raw(server.ports[0], said, context, "localhost")
            await eventually(lambda: not server.connections)

    run(main)


def test_between_requests_http1_waits_for_a_bounded_time() -> None:
    async def main() -> None:
        async with web(App(), limits=replace(WEB_LIMITS, http1_idle_timeout=0.3, block_timeout=0.2)) as server:
            assert (await ask_raw(server.ports[0], GET)).startswith(b"HTTP/1.1 200 OK")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            writer.write(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
            await asyncio.sleep(0.8)
            assert len(server.connections) == 1, "a watch may be silent"
            writer.transport.abort()
            await eventually(lambda: not server.connections)
            assert reader is not None

    run(main)


def test_a_client_that_breaks_http2_is_told_and_let_go() -> None:
    async def main() -> None:
        async with web(App()) as server:
            settings, too_long = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"
            answer = await ask_raw(server.ports[0], PREFACE + settings + too_long)
            assert b"\x07\x00\x00\x00\x00\x00" in answer, "GOAWAY"
            await eventually(lambda: not server.connections)

    run(main)


def test_edge_27_a_client_that_vanished_is_found_by_ping() -> None:
    async def main() -> None:
        app = App()
        limits = replace(WEB_LIMITS, keepalive_interval=0.2, keepalive_timeout=0.2)
        async with web(app, limits=limits) as server, pooled(server.ports[0], "h2") as pool:
            sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data)
            await asyncio.sleep(1.0)
            assert app.cancelled == 0, "it answers pings"
            connection = next(iter(pool._connections))
            connection.pause_reading()
            await eventually(lambda: app.cancelled == 1)

    run(main)


def test_edge_26_a_client_that_reads_nothing_is_dropped() -> None:
    async def main() -> None:
        app = App()
        async with web(app, limits=replace(WEB_LIMITS, stall_timeout=0.3)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0], limit=65536)
            writer.write(b"GET /bytes/100000000 HTTP/1.1\r\nhost: a\r\n\r\n")
            await eventually(lambda: app.cancelled == 1)
            assert reader is not None
            writer.transport.abort()

    run(main)


def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    async def main() -> None:
        server = WebServer(App(), [WebListener(limits=ListenerLimits(connections_max=2))])
        await server.start()
        kept = [await asyncio.open_connection("127.0.0.1", server.ports[0]) for _ in range(2)]
        await eventually(lambda: len(server.connections) == 2)
        assert await ask_raw(server.ports[0], GET) == b""
        assert server.counters.connections_refused == 1
        for _, writer in kept:
            writer.close()
        await eventually(lambda: not server.connections)
        assert (await ask_raw(server.ports[0], GET_CLOSE)).startswith(b"HTTP/1.1 200")
        assert server.traffic()[0] > 0
        await server.close()

    run(main)


def test_a_handler_that_fails_costs_one_exchange(caplog: pytest.LogCaptureFixture) -> None:
    def broken(exchange: Exchange) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with web(broken) as server:
            assert (await ask_raw(server.ports[0], GET)).startswith(b"HTTP/1.1 500 ")
            async with pooled(server.ports[0], "h2") as pool:
                with pytest.raises(Exception, match="reset"):
                    await fetch(pool, b"GET", b"/")
                assert pool.stats.connections == 1

    run(main)
    assert "ZeroDivisionError" in caplog.text


# --- its end
@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_edge_36_drain_in_steps(protocol: ProtocolName) -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], protocol) as pool:
            sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data)
            idle = await asyncio.open_connection("127.0.0.1", server.ports[0])
            idle[1].write(GET)
            await idle[0].readuntil(b"hello a")
            server.stop_accepting()
            assert not server.listening
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", server.ports[0])
            server.start_drain()
            assert await idle[0].read() == b"", "who asks for nothing is let go"
            idle[1].close()
            server.finish_drain()
            assert server.open_exchanges == 1
            assert not await server.closed(0.1)
            app.open[0].send(b"more")
            app.open[0].finish()
            await sink.over.wait()
            assert (sink.failure, bytes(sink.data)) == (None, b"word\nmore")
            assert await server.closed(10)

    run(main)


def test_edge_36_requests_in_a_drain_are_answered_and_told_to_go() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            writer.write(b"GET /silent HTTP/1.1\r\nhost: a\r\n\r\n")
            await eventually(lambda: app.open)
            server.start_drain()
            app.open[0].respond(200, [(b"content-length", b"0")], end=True)
            answer = await reader.read()
            assert b"connection: close" in answer.lower()
            writer.close()
            await writer.wait_closed()

    run(main)


def test_an_address_in_use_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with web(App()) as server:
            second = WebServer(App(), [WebListener(), WebListener(port=server.ports[0])])
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.ports[0]}"):
                await second.start()
            assert not second.listening
            shared = [WebServer(App(), [WebListener(port=0, reuse_port=True)])]
            await shared[0].start()
            shared.append(WebServer(App(), [WebListener(port=shared[0].ports[0], reuse_port=True)]))
            await shared[1].start()
            for item in shared:
                await item.close()

    run(main)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_close_ends_everything_now() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], "h2") as pool:
            sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: sink.data)
            await server.close()
            await sink.over.wait()
            assert sink.failure is not None
            assert app.cancelled == 1
            with contextlib.suppress(OSError):
                await asyncio.open_connection("127.0.0.1", server.ports[0])
                pytest.fail("it listens")

    run(main)
