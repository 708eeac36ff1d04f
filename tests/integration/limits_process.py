"""A gateway process reduced to its shared limits: asks without a pause for so many seconds, then says what it got.

    python limits_process.py REDIS-URL PROCESSES SECONDS QPS BURST

It prints a line once it has heard of all processes, waits for a line, and prints its result as JSON: the times of
admission (CLOCK_MONOTONIC), whether it is by itself, and how many rounds failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

from wharf.gateway.api.shapes import Schema, Scope
from wharf.gateway.limits.exchange import Answers, Ask
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import NOBODY, Ticket
from wharf.gateway.limits.sharer import Sharer
from wharf.gateway.limits.shares import Shares
from wharf.gateway.limits.shares_redis import RedisShares

PAUSE = 0.002  # seconds


class Company(RedisShares):
    """Tells when all are there."""

    def __init__(self, url: str, processes: int) -> None:
        super().__init__(url, timeout_seconds=20.0)
        self.complete = asyncio.Event()
        self._processes = processes

    async def exchange(self, holder: str, asks: Sequence[Ask]) -> Answers:
        answers = await super().exchange(holder, asks)
        if answers.replicas == self._processes:
            self.complete.set()
        return answers


async def main(url: str, processes: int, seconds: float, qps: float, burst: int) -> None:
    loop = asyncio.get_running_loop()
    shares, company = Shares(processes), Company(url, processes)
    limiter = Limiter([Schema("a", qps=qps, burst=burst, scope=Scope.GLOBAL)], loop.time(), shares.of("c"))
    sharer = Sharer(shares, company, "test")
    running = asyncio.create_task(sharer.run())
    await company.complete.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # all of them begin together
    ends, admitted = loop.time() + seconds, []
    while (now := loop.time()) < ends:
        admitted += [now for _ in range(5) if isinstance(limiter.admit(("a",), NOBODY, False, 1.0, now), Ticket)]
        await asyncio.sleep(PAUSE)
    running.cancel()
    await asyncio.wait([running])
    await sharer.close()
    print(json.dumps([admitted, shares.away, sharer.failures]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
