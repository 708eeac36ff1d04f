"""Permits for upgrades: bounded, first come first served, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from wharf.gateway.limits import upgrade_permits
from wharf.gateway.limits.upgrade_permits import PERMITS, UpgradePermits


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


async def taken() -> UpgradePermits:
    permits = UpgradePermits()
    for _ in range(PERMITS):
        assert await permits.wait(0)
    assert not permits.take()
    return permits


def test_those_that_wait_get_permits_in_their_order() -> None:
    async def main() -> None:
        permits, order = await taken(), []

        async def wait(number: int) -> None:
            assert await permits.wait(10)
            order.append(number)

        waiting = [asyncio.create_task(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        assert permits.waiting == 3
        for _ in range(3):
            permits.give()
        assert not permits.take(), "all permits are promised"
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2]
        permits.give()
        assert permits.take()

    run(main())


def test_a_wait_ends_in_time_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        permits = await taken()
        assert not await permits.wait(0.01)
        assert permits.waiting == 0
        permits.give()
        assert permits.free == 1

    run(main())


@pytest.mark.parametrize("given", [False, True])
def test_a_cancelled_wait_holds_no_permit(given: bool) -> None:
    async def main() -> None:
        permits = await taken()
        waiting = asyncio.create_task(permits.wait(10))
        await asyncio.sleep(0)
        if given:
            permits.give()  # in the same turn of the loop
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert permits.waiting == 0
        assert permits.free == int(given)

    run(main())


def test_so_many_wait_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        permits = await taken()
        waiting = [asyncio.create_task(permits.wait(10)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not await permits.wait(10)
        permits.give()
        permits.give()
        assert await asyncio.gather(*waiting) == [True, True]

    monkeypatch.setattr(upgrade_permits, "WAITING_MAX", 2)
    run(main())
