"""How a pool grows when streams are exhausted, and who gets the room that there is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from wharf.wire.client_shell import RequestFailed
from wharf.wire.pool import PoolLimits
from wharf.wire.web import Fault
from wharf.wire.web_server import WEB_LIMITS
from wire.net import eventually
from wire.test_web_pool import run
from wire.web_net import App, Sink, pooled, web


def test_edge_28_a_pool_grows_when_streams_are_exhausted_and_shares_what_it_has() -> None:
    async def main() -> None:
        app = App()
        limits = replace(WEB_LIMITS, concurrent_streams=10)
        async with (
            web(app, limits=limits) as server,
            pooled(server.ports[0], "h2", limits=PoolLimits(connections_max=3)) as pool,
        ):
            sinks = []
            for _ in range(30):
                sinks.append(Sink((await pool.connect()).request(b"GET", b"/hold", b"a", [])))
            assert pool.stats.connections == 3
            waiting = asyncio.ensure_future(pool.connect())
            await eventually(lambda: len(app.open) == 30)
            assert pool.stats.waiting == 1
            assert pool.ready() is None
            with pytest.raises(RequestFailed) as caught:
                await pool.connect(asyncio.get_running_loop().time() + 0.01)
            assert caught.value.failure.fault is Fault.FULL
            app.open[7].finish()
            link = await waiting
            assert link.capacity == 1

    run(main)


def test_a_pool_grows_by_as_many_connections_as_its_waiting_requests_need() -> None:
    async def main() -> None:
        app = App()
        limits = replace(WEB_LIMITS, concurrent_streams=10)
        async with web(app, limits=limits) as server, pooled(server.ports[0], "h2") as pool:
            dialing = []

            async def hold() -> None:
                Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))

            async def look() -> None:
                while len(app.open) < 205:
                    dialing.append(pool.stats.dialing)
                    await asyncio.sleep(0)

            await asyncio.gather(look(), *(hold() for _ in range(205)))
            await eventually(lambda: len(app.open) == 205)
            assert pool.stats.connections == 21
            assert 1 < max(dialing) <= pool.limits.dials_max

    run(main)


def test_thousands_of_waiting_requests_each_get_their_turn() -> None:
    async def main() -> None:
        app = App()
        limits, few = replace(WEB_LIMITS, concurrent_streams=50), PoolLimits(connections_max=2, pending_max=5000)
        async with web(app, limits=limits) as server, pooled(server.ports[0], "h2", limits=few) as pool:
            order: list[int] = []

            async def ask(number: int) -> None:
                link = await pool.connect()
                order.append(number)
                await Sink(link.request(b"GET", b"/hello", b"a", [])).over.wait()

            await asyncio.gather(*(ask(number) for number in range(3000)))
            assert order == list(range(3000)), "first come, first served"
            assert pool.stats.connections == 2

    run(main)


def test_a_full_pool_finds_room_again_wherever_a_request_ends() -> None:
    async def main() -> None:
        app = App()
        limits, few = replace(WEB_LIMITS, concurrent_streams=3), PoolLimits(connections_max=4)
        async with web(app, limits=limits) as server, pooled(server.ports[0], "h2", limits=few) as pool:
            for _ in range(12):
                Sink((await pool.connect()).request(b"GET", b"/hold", b"a", []))
            await eventually(lambda: len(app.open) == 12)
            assert pool.ready() is None
            for index in (11, 4, 0, 7):
                app.open[index].finish()
                await eventually(lambda: pool.ready() is not None)
                link = pool.ready()
                assert link is not None
                Sink(link.request(b"GET", b"/hold", b"a", []))
                assert pool.ready() is None

    run(main)
