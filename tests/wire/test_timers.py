"""Periodic work goes on after an exception, which is logged; what it looks after is not lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from wharf.wire.client import HttpPool, fetch
from wharf.wire.limits import ConnectionLimits
from wharf.wire.pool import PoolLimits
from wharf.wire.timers import Attempts, Ticker, attempt
from wharf.wire.web_server import WEB_LIMITS
from wire.net import eventually, serving
from wire.web_net import App, target_of, web


class Failing:
    """Counts its calls and raises at each."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> None:
        self.calls += 1
        raise ValueError("broken")


def test_attempt_logs_what_failed(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[int] = []
    assert attempt("append", taken.append, 3)
    assert taken == [3]
    assert not attempt("count the sheep", Failing(), 1)
    assert "count the sheep failed" in caplog.text
    assert "ValueError: broken" in caplog.text


def test_ticker_goes_on_after_an_exception_and_ends_when_closed() -> None:
    async def main() -> None:
        work = Failing()
        ticker = Ticker("fail", lambda: 0.001, work)
        await eventually(lambda: work.calls >= 3)
        ticker.close()
        ticker.close()
        calls = work.calls
        await asyncio.sleep(0.02)
        assert work.calls == calls

    uvloop.run(main())


def test_of_failures_in_a_row_the_first_is_logged_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    attempts, broken = Attempts("count the sheep"), Failing()
    for _ in range(5):
        assert not attempts(broken)
    assert (attempts.failures, caplog.text.count("Traceback")) == (5, 1)
    assert attempts(lambda: None)
    assert "count the sheep works again after 5 failures" in caplog.text
    assert not attempts(broken)
    assert caplog.text.count("Traceback") == 2


def test_ticker_goes_on_when_its_interval_cannot_be_found(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        answers = iter((0.001, 0.001))
        turns: list[None] = []
        ticker = Ticker("work", lambda: next(answers), lambda: turns.append(None))
        await eventually(lambda: len(turns) >= 4)
        ticker.close()

    uvloop.run(main())
    assert "find how often to work failed" in caplog.text


def test_ticker_may_be_closed_by_its_work() -> None:
    async def main() -> None:
        calls: list[Ticker] = []

        def work() -> None:
            calls.append(ticker)
            ticker.close()

        ticker = Ticker("close itself", lambda: 0.001, work)
        await eventually(lambda: calls)
        await asyncio.sleep(0.02)
        assert len(calls) == 1

    uvloop.run(main())


async def _second_is_cut(port: int, connections: Callable[[], set[Any]], counted: Callable[[], int]) -> None:
    """The first connection's `tick` raises; the second is silent, and cut all the same."""
    _, first = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: len(connections()) == 1)
    next(iter(connections())).tick = broken = Failing()
    _, second = await asyncio.open_connection("127.0.0.1", port)
    await eventually(lambda: counted() == 2)
    await eventually(lambda: not connections())
    assert broken.calls == 1
    first.close()
    second.close()


def test_web_server_drops_a_connection_whose_timeouts_fail_and_looks_at_the_others() -> None:
    async def main() -> None:
        async with web(App(), limits=replace(WEB_LIMITS, preface_timeout=0.3)) as server:
            await _second_is_cut(
                server.ports[0], lambda: server.connections, lambda: server.counters.connections_accepted
            )

    uvloop.run(main())


def test_grpc_server_drops_a_connection_whose_timeouts_fail_and_looks_at_the_others() -> None:
    async def main() -> None:
        async with serving(limits=ConnectionLimits(preface_timeout=0.3)) as server:
            await _second_is_cut(
                server.ports[0], lambda: server.connections, lambda: server.counters.connections_accepted
            )

    uvloop.run(main())


def test_pool_drops_a_connection_whose_timeouts_fail_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with web(App()) as server:
            pool = HttpPool(target_of(server.ports[0], "h2"), PoolLimits(stall_timeout=0.05))
            await fetch(pool, b"GET", b"/hello")
            (connection,) = pool._connections
            monkeypatch.setattr(connection, "tick", broken := Failing())
            await eventually(lambda: broken.calls and not pool.stats.connections)
            await fetch(pool, b"GET", b"/hello")
            (connection,) = pool._connections
            monkeypatch.setattr(connection, "tick", broken := Failing())
            await eventually(lambda: broken.calls)
            await pool.close()

    uvloop.run(main())
