"""A server on a free port inside the test's loop, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc.aio
from wharf.wire.http import HttpHandler
from wharf.wire.limits import ConnectionLimits, ListenerLimits
from wharf.wire.rpc import Kind, Method
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.tls import TlsConfig

ECHO = "/test.Service/Echo"
WHO = "/test.Service/Who"
WAIT = "/test.Service/Wait"


def echo(message: bytes, call: Any) -> None:
    """Answers with the request."""
    call.reply(message)


def who(message: bytes, call: Any) -> None:
    """Answers with who the peer is."""
    certificate = call.peer.certificate
    name = certificate.common_name if certificate else "nobody"
    groups = ",".join(certificate.organizations) if certificate else ""
    call.reply(f"{name}|{groups}|{call.peer.server_name}".encode())


def wait(call: Any) -> None:
    """A stream that says one word and stays open."""
    call.send(b"open")


METHODS = {
    ECHO: Method(ECHO, Kind.UNARY, echo),
    WHO: Method(WHO, Kind.UNARY, who),
    WAIT: Method(WAIT, Kind.STREAM, wait),
}


@contextlib.asynccontextmanager
async def serving(
    tls: TlsConfig | None = None,
    *,
    methods: Mapping[str, Method] = METHODS,
    http: HttpHandler | None = None,
    limits: ConnectionLimits | None = None,
    connections_max: int = 1000,
    unix_path: str | None = None,
) -> AsyncIterator[GrpcServer]:
    """A started server, closed at the end."""
    listener = ListenerConfig(tls=tls, unix_path=unix_path, limits=ListenerLimits(connections_max=connections_max))
    server = GrpcServer(methods, [listener], http=http, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def dial(target: str) -> Any:
    """A plain channel of grpcio's; its stubs cannot type raw bytes."""
    return grpc.aio.insecure_channel(target)


async def ask_raw(port: int, data: bytes, tls: ssl.SSLContext | None = None, name: str | None = None) -> bytes:
    """Send bytes, read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def eventually(happened: Callable[[], object]) -> None:
    """Wait, ten seconds at most, until something other tasks and processes do has happened."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - there is no one event for all that is waited for
            await asyncio.sleep(0.005)
