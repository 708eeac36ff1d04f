"""Permits for upgrades of clients that no server has accepted: each upgrade costs a server a TLS handshake.

Invariant: a permit is free, or held by one request. A waiting request holds no permit and waits a bounded time, and at
most WAITING_MAX requests wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PERMITS: Final = 16  # upgrades at the same time, per cluster and process
WAITING_MAX: Final = 1024


class UpgradePermits:
    """First come, first served. On the loop thread."""

    __slots__ = ("_waiters", "free")

    def __init__(self) -> None:
        self.free = PERMITS
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def take(self) -> bool:
        """Whether a permit was free and no other request waits for it. `give` returns it."""
        if not self.free or self._waiters:
            return False
        self.free -= 1
        return True

    async def wait(self, seconds: float) -> bool:
        """Whether the request got a permit within `seconds`. Cancelled, it holds none."""
        if self.take():
            return True
        if len(self._waiters) >= WAITING_MAX:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            got = waiter.done() and not waiter.cancelled()  # in the very turn of the loop that ended the wait
            if not got and waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                return got
            if got:
                self.give()
            raise
        return True

    def give(self) -> None:
        """Return a permit; the request that waits longest gets it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1
