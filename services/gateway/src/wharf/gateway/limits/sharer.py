"""The thin shell of `Shares`: carries its rounds to whoever keeps the limits, one after another, until it is stopped.

No request waits for it. What ends a round in error is told to `Shares`, logged once for each time the keeper goes
away, and tried again.
"""

from __future__ import annotations

import asyncio
import secrets

from wharf.common.log import get_log
from wharf.gateway.limits.exchange import Keeper, SharesUnavailable
from wharf.gateway.limits.shares import Round, Shares
from wharf.gateway.limits.shares_parent import ParentShares

log = get_log("gateway.limits")


def keeper_of(redis_url: str, parent_path: str) -> Keeper | None:
    """Redis if there is one, else the parent process if there is one; None: each process by itself. ValueError."""
    if redis_url:
        from wharf.gateway.limits.shares_redis import RedisShares  # noqa: PLC0415 only who shares pays for it

        return RedisShares(redis_url)
    return ParentShares(parent_path) if parent_path else None


class Sharer:
    """`run` until cancelled; then `close`."""

    def __init__(self, shares: Shares, keeper: Keeper, name: str) -> None:
        """`name`: of this process, for people who look into Redis."""
        self.failures = 0  # rounds without an answer, since the start
        self._shares, self._keeper = shares, keeper
        self._holder = f"{name}/{secrets.token_hex(8)}"  # never another process's, nor this one's of another life
        self._hungry = asyncio.Event()
        shares.on_hungry = self._hungry.set

    async def run(self) -> None:
        """Exchange whatever is due."""
        clock = asyncio.get_running_loop().time
        while True:
            self._hungry.clear()
            if (due := self._shares.plan(clock())) is not None:
                await self._exchange(due)
            wait = self._shares.next_at() - clock()
            if wait > 0:
                await self._pause(wait)
            else:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Give back what this process holds, and let go of the connection."""
        self._shares.on_hungry = None
        try:
            for asks in self._shares.farewell():
                await self._keeper.exchange(self._holder, asks)
        except SharesUnavailable:
            return  # what it holds runs out
        finally:
            await self._keeper.close()

    async def _exchange(self, due: Round) -> None:
        clock, was_away = asyncio.get_running_loop().time, self._shares.away
        try:
            answers = await self._keeper.exchange(self._holder, due.asks)
        except SharesUnavailable as error:
            if not was_away or not self.failures:
                log.warn("shared limits are away: this process grants its part by itself", reason=error.reason)
            self.failures += 1
            self._shares.fail(clock())
            return
        self._shares.apply(due, answers, clock())
        if was_away:
            log.info("limits are shared", processes=answers.replicas)

    async def _pause(self, seconds: float) -> None:
        """Until a bucket gets hungry, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._hungry.wait()
        except TimeoutError:
            return
