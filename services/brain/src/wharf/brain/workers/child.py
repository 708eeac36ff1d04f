"""A worker as the process that started it has it, and what it is handed.

It is the same program, started anew, told by a page of memory instead of flags. It ends with the one that started it:
the kernel kills it, also when that one is killed; and it inherits the lock of the store, so nobody else can write the
store as long as it might still answer from what was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from wharf.brain.config import BrainConfig
from wharf.common import handing, report
from wharf.common.handing import start_worker
from wharf.common.log import get_log
from wharf.common.metrics import Family

_log = get_log("brain.workers")


@dataclass(frozen=True, slots=True)
class Handed:
    """What a worker is started with. Descriptors are its own."""

    config: BrainConfig
    worker: int  # from 0
    parent: int  # process
    control: str  # where the parent is asked
    page: int
    bell: int
    line: int  # a socket to the parent


class Child:
    """A running worker. For the loop thread."""

    def __init__(self, process: subprocess.Popen[bytes], bell: int, line: socket.socket, worker: int) -> None:
        self.worker = worker
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.told: Sequence[Family] = ()  # what it has counted
        self._process, self._bell, self._line = process, bell, line
        self._loop = asyncio.get_running_loop()
        self._end = os.pidfd_open(process.pid)
        self._loop.add_reader(self._end, self._over)
        self._listening = self._loop.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative: the signal that ended it; None while it runs."""
        return self._process.returncode

    def ring(self) -> None:
        """Something is published."""
        if not self.ended.is_set():
            with contextlib.suppress(BlockingIOError):  # as full of rings as can be
                os.eventfd_write(self._bell, 1)

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            self._process.send_signal(number)

    async def close(self) -> None:
        """Kill it if it still runs, and let go of it."""
        self.signal(signal.SIGKILL)
        await self.ended.wait()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        os.close(self._bell)

    def _over(self) -> None:
        self._loop.remove_reader(self._end)
        os.close(self._end)
        self._process.wait()  # it is over: this only takes the code
        self.ended.set()

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=self._line)
        try:
            while True:
                length = report.length_of(await reader.readexactly(report.HEAD))
                families = report.decode(await reader.readexactly(length))
                self.ready.set()
                self.told = families or self.told
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # it is going
        except report.BadReport as error:
            _log.error("a worker reports what cannot be read", worker=self.worker, reason=str(error))
        finally:
            writer.close()


def start(handed: Callable[[int, int, int], Handed], page: int, lock: int, worker: int) -> Child:
    """A new worker; `handed` makes what it is handed of its descriptors for page, bell and line. OSError."""
    bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    try:
        papers = handed(page, bell, theirs.fileno())
        process = start_worker("wharf.brain", papers, (page, bell, theirs.fileno(), lock))
    except BaseException:
        os.close(bell)
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, bell, ours, worker)


def taken(argv: Sequence[str]) -> Handed | None:
    """In a process that was started as a worker: what it was handed; see common.handing."""
    return cast("Handed | None", handing.taken(argv))
