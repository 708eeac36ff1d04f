"""`timeouts.stall` cuts clients that take nothing of what waits for them, and no others."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from faults.raw import literal
from gateway.serve.kit import Stack, run, stack, until
from gateway.serve.test_streams import EVENT, WATCH, begin
from wharf.gateway.life import local
from wharf.wire.h2 import PREFACE
from wharf.wire.tcp import bytes_acked
from wharf.wire.web import Exchange
from wharf.wire.web_server import WEB_LIMITS
from wire.pair import raw_frame

LIST = b"/api/v1/pods"
PIECE = bytes(64 * 1024)
STALL = {"stall": 1}
RST_STREAM, HEADERS, SETTINGS, WINDOW_UPDATE = 3, 1, 4, 8
NO_WINDOW = raw_frame(SETTINGS, 0, 0, b"\0\4" + bytes(4))
WINDOW = raw_frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + raw_frame(WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
ALIVE = 2.5  # stall timeouts: who is still connected then is not cut


def endless(exchange: Exchange) -> None:
    """A list that goes on for as long as somebody takes it."""

    def more() -> None:
        while exchange.writable and not exchange.done:
            exchange.send(PIECE)

    exchange.respond(200, [(b"content-type", b"application/json")])
    exchange.on_drain = more
    more()


class Time:
    """What the gateway's connections take for the time. It passes when a test says so, however fast the machine is."""

    def __init__(self, made: Stack) -> None:
        self._server = made.gateway.server
        assert self._server._ticker is not None
        self._server._ticker.close()
        self.now = asyncio.get_running_loop().time()

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for connection in list(self._server.connections):
            connection.tick(self.now)

    async def pass_stalls(self, stall: float) -> None:
        """As long as `ALIVE`, in steps as the server's own looks are."""
        for _ in range(5):
            self.pass_by(stall * ALIVE / 5)
            await asyncio.sleep(0)


def small_socket() -> socket.socket:
    """One that takes little ahead of its reader."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    return sock


def tls_context(made: Stack, alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
    context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
    context.set_alpn_protocols([alpn])
    return context


@asynccontextmanager
async def connected(made: Stack, alpn: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client with a certificate."""
    sock = small_socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", made.port))
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=tls_context(made, alpn), server_hostname="localhost", limit=16 * 1024
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(alpn: str, target: bytes, settings: bytes = WINDOW) -> bytes:
    if alpn == "http/1.1":
        return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target
    fields = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", target))
    block = b"".join(literal(name, value) for name, value in fields)
    return PREFACE + settings + raw_frame(HEADERS, 5, 1, block)


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
@pytest.mark.parametrize("target", [LIST, WATCH])
def test_client_that_does_not_read_is_disconnected_after_the_stall_timeout(alpn: str, target: bytes) -> None:
    async def main() -> None:
        async with stack(timeouts=STALL) as made:
            made.servers[0].behave = endless
            async with connected(made, alpn) as (_, writer):
                writer.write(request(alpn, target))
                await until(lambda: made.gateway.handler.active, "it is served")
                await until(lambda: not made.gateway.server.connections, "it is cut")
                await until(lambda: made.servers[0].requests[0].exchange.done, "the server is told")
            assert not made.gateway.handler.active

    run(main())


@pytest.mark.parametrize(("target", "behave"), [(LIST, endless), (WATCH, begin)])
def test_response_whose_window_stays_shut_is_reset_after_the_stall_timeout(
    target: bytes, behave: Callable[[Exchange], None]
) -> None:
    async def main() -> None:
        async with stack(timeouts=STALL) as made:
            made.servers[0].behave = behave
            async with connected(made, "h2") as (reader, writer):
                writer.write(request("h2", target, NO_WINDOW))
                await until(lambda: made.servers[0].requests, "it is served")
                exchange = made.servers[0].requests[0].exchange
                if behave is begin:
                    exchange.send(EVENT)
                async with asyncio.timeout(20):
                    await reader.readuntil(raw_frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
                await until(lambda: exchange.done, "the server is told")
                assert not made.gateway.handler.active
                assert made.gateway.server.connections, "other streams of this connection go on"

    run(main())


def test_watch_without_events_is_not_cut_however_small_its_window() -> None:
    async def main() -> None:
        async with stack(timeouts=STALL) as made:
            made.servers[0].behave = begin
            time = Time(made)
            async with connected(made, "h2") as (_, writer):
                writer.write(request("h2", WATCH, NO_WINDOW))
                await until(lambda: made.servers[0].requests, "it is served")
                await time.pass_stalls(1)
                assert len(made.gateway.handler.active) == 1
                made.servers[0].requests[0].exchange.send(EVENT)

                def is_cut() -> bool:
                    time.pass_by(0.5)
                    return not made.gateway.handler.active

                await until(is_cut, "it is cut with an event that waits")

    run(main())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_slow_client_is_not_cut(alpn: str) -> None:
    """It takes far less in a stall timeout than the gateway holds for it, yet never nothing."""

    def connect(made: Stack) -> ssl.SSLSocket:
        sock = small_socket()
        sock.settimeout(10)
        sock.connect(("127.0.0.1", made.port))
        tls = tls_context(made, alpn).wrap_socket(sock, server_hostname="localhost")
        tls.sendall(request(alpn, LIST))
        return tls

    async def main() -> None:
        async with stack(timeouts=STALL) as made:
            made.servers[0].behave = endless
            time = Time(made)
            with await asyncio.to_thread(connect, made) as tls:
                await until(lambda: made.gateway.server.connections, "it is there")
                (connection,) = made.gateway.server.connections
                assert connection.transport is not None
                ours = connection.transport.get_extra_info("socket")
                await until(lambda: connection.stalled_since, "it is too slow for what comes")
                for _ in range(5):
                    taken = bytes_acked(ours)
                    while bytes_acked(ours) == taken:
                        # it reads a TLS record at a time from the kernel, where streams read all
                        assert await asyncio.to_thread(tls.recv, 8 * 1024)
                    time.pass_by(ALIVE / 3)
                    assert made.gateway.server.connections == {connection}

                def is_cut() -> bool:
                    time.pass_by(ALIVE / 3)
                    return not made.gateway.server.connections

                await until(is_cut, "it is cut once it reads no more")

    run(main())


def test_stall_timeout_longer_than_the_servers_limits_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WEB_LIMITS", replace(WEB_LIMITS, stall_timeout=5, reader_timeout=5))

    async def main() -> None:
        async with stack(timeouts={"stall": 60}) as made:
            made.servers[0].behave = endless
            time = Time(made)
            async with connected(made, "h2") as (_, unread), connected(made, "h2") as (_, shut):
                unread.write(request("h2", LIST))
                shut.write(request("h2", LIST, NO_WINDOW))
                await until(lambda: len(made.servers[0].requests) == 2, "they are served")
                connections = made.gateway.server.connections
                await until(lambda: any(each.stalled_since for each in connections), "one takes nothing")
                await until(lambda: not any(each.exchange.writable for each in made.servers[0].requests), "both wait")
                await time.pass_stalls(5)
                assert len(made.gateway.handler.active) == 2
                for each in connections:
                    assert each.transport is not None
                    sock = each.transport.get_extra_info("socket")
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000

    run(main())
