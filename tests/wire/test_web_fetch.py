"""Whole requests over a pool, and a pool's end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import RequestFailed
from wharf.wire.limits import ConnectionLimits
from wharf.wire.web import Fault
from wire.net import eventually
from wire.web_net import App, Sink, pooled, target_of, web


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    uvloop.run(bounded())


def test_fetch_is_bounded_in_time_and_size() -> None:
    async def main() -> None:
        app = App()
        async with web(app) as server, pooled(server.ports[0], "h2") as pool:
            with pytest.raises(RequestFailed) as caught:
                await fetch(pool, b"GET", b"/silent", timeout=0.1)
            assert caught.value.failure.fault is Fault.TIMEOUT
            with pytest.raises(RequestFailed, match="longer than 1000 bytes"):
                await fetch(pool, b"GET", b"/bytes/10000000", body_max=1000)
            await eventually(lambda: server.open_exchanges == 0)
            assert app.cancelled == 2
            task = asyncio.ensure_future(fetch(pool, b"GET", b"/silent"))
            await eventually(lambda: len(app.open) == 2)
            task.cancel()
            await eventually(lambda: app.cancelled == 3)
            server.abort_all()
            with pytest.raises(RequestFailed):
                await fetch(pool, b"GET", b"/silent", timeout=0.1)
            with contextlib.suppress(asyncio.CancelledError):
                await task

    run(main)


def test_close_waits_for_what_is_under_way_and_then_cuts_it() -> None:
    async def main() -> None:
        app = App()
        async with web(app, limits=ConnectionLimits()) as server:
            for grace, outcome in ((5.0, None), (0.1, Fault.LOST)):
                pool = HttpPool(target_of(server.ports[0], "h2"))
                sink = Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
                await eventually(lambda: sink.data)  # noqa: B023
                closing = asyncio.ensure_future(pool.close(grace))
                await asyncio.sleep(0)
                with pytest.raises(RequestFailed, match="pool is closed"):
                    await pool.connect()
                if outcome is None:
                    app.open[-1].finish()
                await closing
                await sink.over.wait()
                assert (sink.failure.fault if sink.failure else None) is outcome

    run(main)
