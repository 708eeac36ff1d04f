"""A web server that sends every body back, as a program for strangers' tools: `python -m wire.web_echo [cert key]`.

It prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.web import Exchange, Headers
from wharf.wire.web_server import WebListener, WebServer


def echo(exchange: Exchange) -> None:
    """Answers at once, then with what comes, as fast as it is read."""
    exchange.respond(200, [(b"content-type", b"application/octet-stream")])
    if not exchange.body_expected:
        exchange.send(b"nothing was sent\n")
        exchange.finish()
        return
    held = 0

    def data(piece: bytes) -> None:
        nonlocal held
        held += len(piece)
        exchange.send(piece)
        if exchange.writable:
            drain()

    def drain() -> None:
        nonlocal held
        taken, held = held, 0
        exchange.take(taken)

    def end(trailers: Headers) -> None:
        exchange.finish(trailers)

    exchange.on_drain, exchange.on_end, exchange.on_data = drain, end, data


async def serve(tls: DynamicTls | None) -> None:
    server = WebServer(echo, [WebListener()], tls=tls)
    await server.start()
    print(server.ports[0], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    certificate, key = map(Path, sys.argv[1:3]) if len(sys.argv) > 1 else (None, None)
    identity = Identity("echo", certificate.read_bytes(), key.read_bytes()) if certificate and key else None
    uvloop.run(serve(DynamicTls(identity) if identity is not None else None))
