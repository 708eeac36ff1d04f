"""Following a source until the cut-over: transactions into a sink, batched as they come.

One task reads the watch, one asks where the source stands; both hand over through one bounded queue, so a slow sink
holds the source's stream back instead of filling memory. The sink is called by one caller at a time, in order, and
never with a transaction behind the revision at which the migration ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from wharf.brain.migrate.progress import View
from wharf.brain.migrate.shapes import CutOver, MigrationFailed, Transaction
from wharf.brain.migrate.source import Source

Sink = Callable[[list[Transaction]], Awaitable[None]]

ASK_EVERY: Final = 1.0  # seconds between looks at the source's revision
ASK_PATIENCE: Final = 5.0
STALL: Final = 30.0  # seconds without a transaction though some are due, after the end was asked for
_QUEUE: Final = 32  # responses read ahead
_TOGETHER: Final = 2000  # transactions given to the sink at once


class Stop:
    """How somebody ends a migration. `asked` ends it in order while it is `graceful`, that is while it follows."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.graceful = False

    def ask(self) -> bool:
        """Ask for the end; False when it will not come by itself."""
        if not self.graceful or self.asked.is_set():
            return False
        self.asked.set()
        return True


class Follower:
    """One source followed; `stop.asked` ends it at the revision the source has by then."""

    def __init__(self, source: Source, cut: CutOver, stop: Stop, view: View) -> None:
        self._source, self._cut, self._stop, self._view = source, cut, stop, view
        self._queue: asyncio.Queue[list[Transaction] | MigrationFailed] = asyncio.Queue(_QUEUE)
        self._applied = self._newest = 0
        self._moved = 0.0  # when the last transaction was applied

    async def run(self, after: int, sink: Sink) -> int:
        """Follow from behind revision `after`; the revision at which it ended. MigrationFailed."""
        self._applied = self._newest = after
        self._moved = asyncio.get_running_loop().time()
        self._stop.graceful = True
        tasks = [asyncio.create_task(self._read(after)), asyncio.create_task(self._ask())]
        try:
            while not self._cut.reached(self._applied):
                await self._take(sink)
        finally:
            self._stop.graceful = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._applied

    async def _take(self, sink: Sink) -> None:
        """Give the sink what has come."""
        taken: list[Transaction] = []
        item = await self._queue.get()
        while isinstance(item, list):
            taken += item
            if self._queue.empty() or len(taken) >= _TOGETHER:
                break
            item = self._queue.get_nowait()
        target = self._cut.target
        due = [one for one in taken if target is None or one.revision <= target]
        if due:
            await sink(due)
            self._applied = due[-1].revision
            self._newest = max(self._newest, self._applied)
            self._moved = asyncio.get_running_loop().time()
        self._view.following(self._applied, self._newest)
        if isinstance(item, MigrationFailed) and not self._cut.reached(self._applied):
            raise item

    async def _read(self, after: int) -> None:
        try:
            async with aclosing(self._source.transactions(after, self._view.line)) as told:
                async for found, revision in told:
                    self._newest = max(self._newest, revision)
                    if found:
                        await self._queue.put(found)
        except MigrationFailed as failure:
            await self._queue.put(failure)

    async def _ask(self) -> None:
        """Where the source stands, again and again."""
        while True:
            stopping = self._stop.asked.is_set()
            try:
                revision, _ = await self._source.stand(ASK_PATIENCE)
            except MigrationFailed as failure:
                if stopping:
                    text = f"{failure}; without the source the copy cannot be completed and checked"
                    await self._queue.put(MigrationFailed(text))
                    return
            else:
                await self._saw(revision, stopping)
            if stopping:
                await asyncio.sleep(ASK_EVERY)
            else:
                await _either(self._stop.asked, ASK_EVERY)

    async def _saw(self, revision: int, stopping: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._newest = max(self._newest, revision)
        if stopping and (self._cut.target is None or revision < self._cut.target):
            self._cut.asked(revision)
        if self._cut.saw(revision, self._applied, now) and not stopping:
            self._view.line(f"caught up at revision {min(revision, self._applied)}; {self._cut.advice}")
        if stopping and not self._cut.reached(self._applied) and now - self._moved > STALL:
            await self._queue.put(
                MigrationFailed(f"the source does not deliver what follows revision {self._applied}; begin anew")
            )
        await self._queue.put([])


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
