"""The thin shell of a `Limiter`: the timer that moves its queues, and an awaitable turn.

Invariant: at most one timer is armed. A waiter that is cancelled leaves nothing behind, also when its turn had come in
the same moment.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.waiting import Outcome, Waiting
from wharf.wire.timers import attempt

FINEST: Final = 0.001  # seconds; what event loops tell apart
RETRY: Final = 1.0  # seconds to the next turn after one that failed


class Pacer:
    """Serves `limiter` on the running loop until `close`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter, self._loop = limiter, asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        limiter.on_due = self._arm

    async def wait(self, waiting: Waiting) -> Outcome:
        """What becomes of it. Cancelling this cancels that."""
        if waiting.outcome is not None:  # since it was put off and before this ran
            return waiting.outcome
        done: asyncio.Future[Outcome] = self._loop.create_future()
        waiting.on_done = lambda outcome: None if done.done() else done.set_result(outcome)
        try:
            return await done
        except asyncio.CancelledError:
            waiting.cancel(self._loop.time())
            raise

    def bind(self, waiting: Waiting, task: asyncio.Task[Any]) -> None:
        """Cancelling `task` cancels the waiter, also before the task has come to `wait`."""

        def over(done: asyncio.Task[Any]) -> None:
            if done.cancelled():
                waiting.cancel(self._loop.time())

        task.add_done_callback(over)

    def close(self) -> None:
        """The cluster is gone: who waits is let go on, and what is shared with other processes is left."""
        self._limiter.on_due = None
        self._limiter.update((), self._loop.time())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(max(due - self._loop.time(), FINEST), self._tick)

    def _tick(self) -> None:
        self._timer = None
        moved = attempt("let queued requests of a limit go on", self._limiter.tick, self._loop.time())
        if self._timer is None and (due := self._limiter.next_due) is not None:
            self._arm(due if moved else max(due, self._loop.time() + RETRY))
