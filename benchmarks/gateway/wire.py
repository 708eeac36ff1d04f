"""The wire alone: a proxy that decides nothing, to tell what the gateway's own decisions cost.

`python -m benchmarks.gateway.wire [--seconds 4] [--idle-watches 10000]` measures it beside nginx;
`--serve PORT UPSTREAM CERT KEY CA` is the proxy: HTTP/2 over TLS in, forward and couple, HTTP/2 over TLS out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import cast

import uvloop
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import Target, client_context
from wharf.wire.pool import PoolLimits
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.web import Exchange, Failure
from wharf.wire.web_h2 import HeaderFilter, HttpClientSession, HttpServerStream
from wharf.wire.web_server import WebListener, WebServer

from benchmarks.gateway import cost, watches
from benchmarks.gateway.subjects import COMMANDS, HOST, LOOPBACK, PEERS, UPSTREAM_HOST, Pki, Setting

BARE = "wire"
_REQUEST = HeaderFilter([b"expect"], [b"x-remote-", b"impersonate-"])
_RESPONSE = HeaderFilter()


class Proxy:
    """Every exchange goes to one upstream; those that find no connection wait for one."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> None:
        stream = cast(HttpServerStream, exchange)
        link = self._pool.ready()
        if link is not None:
            self._pass(stream, cast(HttpClientSession, link))
            return
        task = asyncio.get_running_loop().create_task(self._wait(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, stream: HttpServerStream) -> None:
        self._pass(stream, cast(HttpClientSession, await self._pool.connect()))

    def _pass(self, stream: HttpServerStream, session: HttpClientSession) -> None:
        if stream.done:
            return
        request = session.forward(stream, _REQUEST, [(b"x-remote-user", b"bench")])
        request.couple(stream, _RESPONSE)

        def fail(failure: Failure) -> None:
            if not stream.responded:
                stream.respond(503, [], end=True)

        request.on_failure = fail
        stream.drop_head()


async def serve(port: int, upstream: int, cert: bytes, key: bytes, ca: bytes) -> None:
    """Proxy until killed."""
    target = Target(LOOPBACK, upstream, client_context(ca, protocol="h2"), UPSTREAM_HOST, "h2")
    pool = HttpPool(target, PoolLimits(connections_max=128))
    server = WebServer(Proxy(pool), [WebListener(LOOPBACK, port)], tls=DynamicTls(Identity(HOST, cert, key)))
    await pool.connect()
    await server.start()
    await asyncio.Event().wait()


def words(one: Setting) -> list[str | Path]:
    """The command of the bare proxy, for benchmarks.gateway.subjects."""
    front = one.pki.front
    arguments: list[str | Path] = [str(one.port), str(one.upstream), front.cert, front.key, one.pki.ca]
    return [sys.executable, "-m", "benchmarks.gateway.wire", "--serve", *arguments]


def measure(seconds: float, idle: int) -> None:
    """Tables to stdout."""
    COMMANDS[BARE] = words
    subjects = (PEERS[0], BARE)
    cases = [case for case in cost.CASES if case.load.version == 2]
    with tempfile.TemporaryDirectory(prefix="bench-pki-") as folder:
        pki = Pki(Path(folder))
        print(cost.table(cost.measure(pki, cases, subjects, 2, seconds)))
        if idle:
            print(watches.table_idle(watches.measure_idle(pki, [BARE], idle)))


def main() -> None:
    parser = argparse.ArgumentParser(description="The wire alone, beside nginx.")
    parser.add_argument("--serve", nargs=5, metavar=("PORT", "UPSTREAM", "CERT", "KEY", "CA"))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--idle-watches", type=int, default=10_000)
    options = parser.parse_args()
    if options.serve:
        port, upstream, *files = options.serve
        cert, key, ca = (Path(name).read_bytes() for name in files)
        uvloop.run(serve(int(port), int(upstream), cert, key, ca))
    else:
        measure(options.seconds, options.idle_watches)


if __name__ == "__main__":
    main()
