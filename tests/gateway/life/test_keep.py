"""Work that goes on beside serving: ended with the process, and missed when it ends before."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest
import uvloop
from wharf.common import log
from wharf.gateway.life.keep import keep


def test_it_is_ended_with_what_it_belongs_to() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def main() -> None:
        async with AsyncExitStack() as down:
            keep(work(), down)
            await asyncio.sleep(0)
        assert ended == ["ended"]

    uvloop.run(main())


def test_what_it_fails_with_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise RuntimeError("of no use any more")

    async def main() -> None:
        async with AsyncExitStack() as down:
            keep(work(), down)
            for _ in range(3):
                await asyncio.sleep(0)

    log.setup("info", "json", sys.stderr)
    uvloop.run(main())
    said = capsys.readouterr().err
    assert "does not go on" in said
    assert "of no use any more" in said
