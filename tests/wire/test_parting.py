"""A peer that says GOAWAY is heard out: what it sends behind it does not turn the end into a reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Protocol, cast

import pytest
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.web_server import WebListener, WebServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
GOAWAY = b"\0\0\x08\7\0\0\0\0\0" + bytes(8)
PING = b"\0\0\x08\6\0\0\0\0\0" + b"farewell"


class Session(Protocol):
    goaway_received: bool


class Connection(Protocol):
    session: Session | None


@asynccontextmanager
async def grpc() -> AsyncIterator[tuple[int, Collection[Connection]]]:
    server = GrpcServer({}, [ListenerConfig()])
    await server.start()
    yield server.ports[0], cast(Collection[Connection], server.connections)
    await server.close()


@asynccontextmanager
async def web() -> AsyncIterator[tuple[int, Collection[Connection]]]:
    server = WebServer(lambda exchange: None, [WebListener()])
    await server.start()
    yield server.ports[0], cast(Collection[Connection], server.connections)
    await server.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it does not happen")


@pytest.mark.parametrize("serving", [grpc, web])
def test_what_comes_behind_a_goaway_is_no_reason_for_a_reset(serving: Callable[[], object]) -> None:
    async def main() -> None:
        async with serving() as (port, connections):  # type: ignore[attr-defined]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PREFACE + GOAWAY)
            async with asyncio.timeout(10):
                await until(lambda: any(one.session is not None and one.session.goaway_received for one in connections))
                writer.write(PING)
                assert await reader.read()  # to the end, orderly: a reset raises
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())
