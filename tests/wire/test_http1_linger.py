"""On sockets: an answer given before the request was read whole arrives, though the client is still sending."""

from __future__ import annotations

import asyncio
import socket
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


def send_all_then_read(port: int, context: ssl.SSLContext | None) -> bytes:
    """As clients do that look at the answer only when they have said everything."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        sock = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        with sock:
            sock.sendall(HEAD)
            for _ in range(LARGE // 100_000):
                sock.sendall(bytes(100_000))
            answer = b""
            while data := sock.recv(65536):
                answer += data
            return answer


@pytest.mark.parametrize("secure", [False, True])
def test_an_early_answer_survives_what_is_still_sent(secure: bool, tmp_path: Path) -> None:
    async def main() -> None:
        material = make_material(tmp_path) if secure else None
        context = ssl.create_default_context(cafile=material.ca.ca_file) if material is not None else None
        async with asyncio.timeout(30), web(refuse, material.tls if material is not None else None) as server:
            answer = await asyncio.to_thread(send_all_then_read, server.ports[0], context)
            assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert b"connection: close" in answer
            assert answer.endswith(b"\r\n\r\nwait")

    uvloop.run(main())
