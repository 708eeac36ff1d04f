"""On sockets: an answer given before the request was read whole arrives, though the client is still sending."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import uvloop
from wharf.wire.web import Exchange
from wire.web_net import make_material, web

LARGE = 3_000_000
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE


def refuse(exchange: Exchange) -> None:
    exchange.respond(429, [(b"content-length", b"4"), (b"retry-after", b"1")])
    exchange.send(b"wait")
    exchange.finish()


async def send_all_then_read(port: int, context: ssl.SSLContext | None) -> bytes:
    """As clients do that look at the answer only when they have said everything."""
    name = "localhost" if context is not None else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    writer.write(HEAD)
    for _ in range(LARGE // 100_000):
        writer.write(bytes(100_000))
        await writer.drain()
    answer = await reader.readuntil(b"wait")
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("secure", [False, True])
def test_an_early_answer_survives_what_is_still_sent(secure: bool, tmp_path: Path) -> None:
    async def main() -> None:
        material = make_material(tmp_path) if secure else None
        context = ssl.create_default_context(cafile=material.ca.ca_file) if material is not None else None
        async with asyncio.timeout(30), web(refuse, material.tls if material is not None else None) as server:
            answer = await send_all_then_read(server.ports[0], context)
            assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert b"connection: close" in answer

    uvloop.run(main())
