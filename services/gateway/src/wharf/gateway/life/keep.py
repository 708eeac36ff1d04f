"""Work that goes on as long as the process serves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from wharf.common.log import get_log

_log = get_log("gateway")


def keep(work: Coroutine[Any, Any, None], down: AsyncExitStack) -> None:
    """Run `work` until it is done or `down` is closed. What it fails with is logged: nobody waits for it."""
    task = asyncio.create_task(work)
    task.add_done_callback(_landed)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    down.push_async_callback(end)


def _landed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("a part of this process has failed and does not go on", cause=task.exception())
