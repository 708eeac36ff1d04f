"""Answers that stay true for a short while, and questions that are asked once however many wait for the answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Verdicts(Generic[K, V]):
    """Values with an end, `most` at a time; the one that was not asked for the longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """The value, while it holds."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if now >= until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, now: float, seconds: float) -> None:
        """Hold a value for so many seconds; not at all when there are none."""
        if seconds <= 0:
            return
        self._entries[key] = (now + seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)


class Crowded(Exception):
    """There are more questions than may be asked."""


class Flights(Generic[K, V]):
    """Questions under way, so many at once; others wait. One who gives up waiting takes the answer from nobody else.

    Whoever makes up credentials makes up questions: what they cost the one who is asked, and us, is bounded here.
    """

    def __init__(self, at_once: int = 64, most: int = 1024, patience: float = 5.0) -> None:
        """`most`: questions there may be, those that wait for their turn for up to `patience` seconds included."""
        self._most, self._patience = most, patience
        self._turns = asyncio.Semaphore(at_once)
        self._joinable: dict[K, asyncio.Task[V]] = {}
        self._tasks: set[asyncio.Task[V]] = set()

    async def join(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer to the question that is under way for this key, or to a new one. Crowded."""
        task = self._joinable.get(key)
        if task is None:
            if len(self._tasks) >= self._most:
                raise Crowded(f"{self._most} questions are under way")
            task = asyncio.get_running_loop().create_task(self._ask(ask))
            self._joinable[key] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Whoever asks from now on asks anew; those who wait already get their answers."""
        self._joinable.clear()

    async def close(self) -> None:
        """Cancel what is under way, and wait until it is over."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise Crowded(f"no turn within {self._patience:g} s") from None
        try:
            return await ask()
        finally:
            self._turns.release()

    def _landed(self, key: K, task: asyncio.Task[V]) -> None:
        self._tasks.discard(task)
        if self._joinable.get(key) is task:
            del self._joinable[key]
        if not task.cancelled():
            task.exception()  # those who wait have it; without any, it is nobody's
