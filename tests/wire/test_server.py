"""A server on sockets: which protocol is spoken, limits of the listener, draining, stopping, many idle connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from wharf.wire._nghttp2 import EventSession
from wharf.wire.h2 import PREFACE
from wharf.wire.http import HttpRequest, HttpResponse
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Code, Kind, Method
from wharf.wire.server import GrpcServer, ListenerConfig, bind
from wire.net import ECHO, WAIT, ask_raw, dial, eventually, serving
from wire.pair import Pair, raw_frame

GET = b"GET /health?x=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
RUNNERS: list[Callable[[Any], Any]] = [asyncio.run, uvloop.run]


def pages(request: HttpRequest) -> HttpResponse:
    if request.path == "/fail":
        raise RuntimeError("secret")
    return HttpResponse(200, f"{request.method} {request.path} {request.query}".encode())


@pytest.fixture(params=RUNNERS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_grpc_and_http_on_one_port(run: Any) -> None:
    async def main() -> None:
        async with serving(http=pages) as server:
            port = server.ports[0]
            async with dial(f"127.0.0.1:{port}") as channel:
                assert await channel.unary_unary(ECHO)(b"hello") == b"hello"
            answer = await ask_raw(port, GET)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nGET /health x=1")
            assert server.counters.routes[ECHO].handled[0] == 1
            assert server.totals().bytes_in > 0

    run(main())


def test_two_requests_in_pieces_on_one_http_connection() -> None:
    async def main() -> None:
        async with serving(http=pages) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            for piece in (b"G", b"ET /1 HTTP/1.1\r\nho", b"st: a\r\n\r\nHEAD /2 HTTP/1.1\r\nhost: a\r\n\r\n", GET):
                writer.write(piece)
                await asyncio.sleep(0.01)
            answer = await reader.read()
            writer.close()
            assert answer.count(b"HTTP/1.1 200 OK") == 3
            assert b"GET /1" in answer
            assert b"HEAD /2" not in answer, "HEAD has no body"

    uvloop.run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + bytes(100_000), b"413"),
        (b"GET /fail HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"500"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_http_errors(data: bytes, status: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> bytes:
        async with serving(http=pages) as server:
            return await ask_raw(server.ports[0], data)

    answer = uvloop.run(main())
    assert answer.split(b" ")[1] == status
    assert b"secret" not in answer


def test_tls_on_a_plain_port_is_said_clearly(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving() as server:
            assert await ask_raw(server.ports[0], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == b""
            assert server.counters.wrong_protocol == 1

    uvloop.run(main())
    assert "speaks TLS to a port without TLS" in caplog.text


def test_garbage_is_closed_without_an_answer() -> None:
    async def main() -> None:
        async with serving() as server:
            assert await ask_raw(server.ports[0], b"\0\1\2\3 garbage\r\n\r\n") == b""
            assert await ask_raw(server.ports[0], PREFACE[:20] + b"xxxxxxxxxx") != b"x"

    uvloop.run(main())


def test_silence_and_half_open_connections_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        limits = ConnectionLimits(preface_timeout=0.1, block_timeout=0.1)
        async with serving(limits=limits) as server:
            for first in (b"", b"PR", PREFACE, PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 0, 1, b"\x82")):
                assert len(await ask_raw(server.ports[0], first)) < 200
            assert server.connections == set()

    uvloop.run(main())


def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    async def main() -> None:
        async with serving(connections_max=2, http=pages) as server:
            port = server.ports[0]
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await eventually(lambda: len(server.connections) == 2)
            assert await ask_raw(port, GET) == b""
            assert server.counters.connections_refused == 1
            for _, writer in kept:
                writer.close()
                await writer.wait_closed()
            await eventually(lambda: not server.connections)
            assert b"200 OK" in await ask_raw(port, GET)

    uvloop.run(main())


def test_a_drain_lets_calls_finish(run: Any) -> None:
    calls: list[Any] = []

    async def main() -> None:
        later = {"/s/M": Method("/s/M", Kind.UNARY, lambda message, call: calls.append(call))}
        async with serving(methods=later) as server:
            async with dial(f"127.0.0.1:{server.ports[0]}") as channel:
                call = channel.unary_unary("/s/M")(b"")
                await eventually(lambda: calls)
                draining = asyncio.create_task(server.drain(10))
                await eventually(lambda: not server.listening)
                assert not draining.done()
                calls[0].reply(b"done")
                assert await call == b"done"
                await draining
            assert server.connections == set()

    run(main())


def test_a_drain_ends_what_does_not_finish() -> None:
    async def main() -> None:
        async with serving() as server, dial(f"127.0.0.1:{server.ports[0]}") as channel:
            stream = channel.stream_stream(WAIT)()
            assert await stream.read() == b"open"
            await server.drain(0.05)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    uvloop.run(main())


@pytest.mark.parametrize("closing", [False, True], ids=["stalled", "closing"])
def test_a_peer_that_does_not_read_is_cut_off(closing: bool) -> None:
    """Its window is wide open, so only TCP stops the answers: bounded in memory, and then in time."""
    pulled = 0

    def parts() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(500):
            pulled += 1 << 20
            yield bytes(1 << 20)

    def endless(message: bytes, call: Any) -> None:
        call.reply_parts(500 << 20, parts())

    async def main() -> None:
        limits = ConnectionLimits(stall_timeout=0.3, close_timeout=0.3)
        if closing:
            limits = replace(limits, stall_timeout=60)
        methods = {"/s/M": Method("/s/M", Kind.UNARY, endless)}
        async with serving(methods=methods, limits=limits) as server:
            client = EventSession(False, settings=((4, 2**31 - 1),), window=2**31 - 1)
            client.request(Pair().headers("/s/M"), b"\0\0\0\0\0")
            with socket.create_connection(("127.0.0.1", server.ports[0])) as peer:
                peer.sendall(client.pull(10_000) or b"")
                await eventually(lambda: pulled)
                if closing:
                    peer.sendall(raw_frame(6, 0, 0, bytes(8)) * 10)  # a ping flood: it is to be closed
                await eventually(lambda: not server.connections)
        assert pulled < 50 << 20

    uvloop.run(main())


def test_a_port_is_shared_only_by_those_who_say_so() -> None:
    async def main() -> None:
        async with serving() as alone:
            with pytest.raises(OSError, match="cannot listen"):
                await GrpcServer({}, [ListenerConfig(port=alone.ports[0], reuse_port=True)]).start()
        one = GrpcServer({}, [ListenerConfig(reuse_port=True)])
        await one.start()
        other = GrpcServer({}, [ListenerConfig(port=one.ports[0], reuse_port=True)])
        await other.start()
        assert one.ports == other.ports
        with pytest.raises(OSError, match="cannot listen"):
            bind(ListenerConfig(port=one.ports[0]))
        await other.close()
        await one.close()

    uvloop.run(main())


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "wire.sock")

    async def main() -> None:
        async with serving(unix_path=path), dial(f"unix:{path}") as channel:
            assert await channel.unary_unary(ECHO)(b"x") == b"x"

    uvloop.run(main())
    assert not Path(path).exists()


def test_deadlines_fire_without_the_client() -> None:
    async def main() -> None:
        async with serving() as server:
            async with dial(f"127.0.0.1:{server.ports[0]}") as channel:
                stream = channel.stream_stream(WAIT)(timeout=0.2)
                assert await stream.read() == b"open"
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stream.read()
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            route = server.counters.routes[WAIT]
            await eventually(lambda: route.handled[Code.DEADLINE_EXCEEDED] + route.handled[Code.CANCELLED] == 1)

    uvloop.run(main())


def test_many_idle_connections_cost_bounded_memory() -> None:
    count = 1000
    opening = PREFACE + raw_frame(4, 0, 0)

    async def main() -> float:
        async with serving(connections_max=count + 10) as server:
            before = _resident()
            clients = []
            for _ in range(count):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
                writer.write(opening)
                clients.append((reader, writer))
            await eventually(lambda: server.totals().bytes_in == count * len(opening))
            used = _resident() - before
            async with dial(f"127.0.0.1:{server.ports[0]}") as channel:
                assert await channel.unary_unary(ECHO)(b"still here") == b"still here"
            for _, writer in clients:
                writer.close()
            return used / count

    assert uvloop.run(main()) < 40_000, "bytes per connection, both ends and the test's own streams included"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_http1_head_by_drops_is_cut() -> None:
    """Each byte puts the idle timeout off, but not the end of the head."""

    async def main() -> None:
        limits = ConnectionLimits(block_timeout=0.3, http1_idle_timeout=30)
        async with serving(limits=limits) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])

            async def drip() -> None:
                for at in range(1000):
                    writer.write(b"GET / HTTP/1.1\r\nx: "[at : at + 1] or b"y")
                    await asyncio.sleep(0.02)

            dripping = asyncio.create_task(drip())
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            writer.transport.abort()
            await eventually(lambda: not server.connections)

    uvloop.run(main())
