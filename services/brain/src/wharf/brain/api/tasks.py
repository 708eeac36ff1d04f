"""Calls that wait: one task each, which ends with its call.

Most calls are answered from callbacks. Those that stand in line or read a file have a task; it is cancelled when the
client goes, when its deadline passes and when the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from wharf.brain.api.service import fail
from wharf.brain.errors import Stopped
from wharf.wire.rpc import Call

Work = Callable[[], Awaitable[bytes | None]]
"""Begins the work of a call. What it returns is the answer; None: it has sent its own answers, the call just ends."""


class Tasks:
    """The waiting calls of a node."""

    def __init__(self) -> None:
        self._stopping = False
        self._running: dict[asyncio.Task[None], Call] = {}

    def __len__(self) -> int:
        return len(self._running)

    def run(self, call: Call, work: Work) -> None:
        """Answer `call` with what `work` returns."""
        if self._stopping:
            raise Stopped
        task = asyncio.get_running_loop().create_task(_answer(call, work))
        self._running[task] = call
        task.add_done_callback(self._running.pop)
        call.on_cancel = lambda: _cancel(task)

    async def stop(self) -> None:
        """End all of them as a stopped server does, and wait until they have cleaned up."""
        self._stopping = True
        stopping = dict(self._running)
        for task, call in stopping.items():
            fail(call, Stopped())
            task.cancel()
        await asyncio.gather(*stopping, return_exceptions=True)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _answer(call: Call, work: Work) -> None:
    try:
        answer = await work()
    except Exception as error:  # whatever it is, the client gets an answer
        fail(call, error)
    else:
        if answer is None:
            call.finish()
        else:
            call.reply(answer)
