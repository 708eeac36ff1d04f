"""A worker's side of the line to its parent: that it serves, what it counts, what it sees, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from wharf.common import report
from wharf.common.log import get_log
from wharf.common.metrics import Registry
from wharf.gateway.life.child import Handed
from wharf.gateway.life.line import Word, encode_frame
from wharf.gateway.life.pages import Instance

EVERY: Final = 1.0  # seconds between reports
LOOK: Final = 0.05  # and between looks at readiness

_log = get_log("gateway.worker")


async def run_worker(handed: Handed, instance: Instance, metrics: Registry, stop: asyncio.Event) -> None:
    """Report until `stop`. The line's end means that the parent is gone; the kernel ends this process then."""
    sock = socket.socket(fileno=handed.line)
    sock.setblocking(False)
    _, writer = await asyncio.open_unix_connection(sock=sock)
    reporting = asyncio.create_task(_report(writer, instance, metrics))
    try:
        await stop.wait()
        with contextlib.suppress(ConnectionError):
            writer.write(encode_frame(Word.UNREADY, b"stopping"))
            await writer.drain()
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        writer.close()


async def _report(writer: asyncio.StreamWriter, instance: Instance, metrics: Registry) -> None:
    told: str | None = None
    due = 0.0
    loop = asyncio.get_running_loop()
    while True:
        reason = instance.unready()
        if reason != told:
            told = reason
            writer.write(encode_frame(Word.UNREADY, reason.encode()) if reason else encode_frame(Word.READY))
        if loop.time() >= due:
            due = loop.time() + EVERY
            for status in instance.statuses():
                writer.write(encode_frame(Word.STATUS, status))
            writer.write(encode_frame(Word.METRICS, report.encode([*metrics.collect(), *instance.families()])))
        await writer.drain()
        await asyncio.sleep(LOOK)
