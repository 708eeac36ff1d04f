"""A worker process as the supervisor has it, and what it is handed.

How it comes to be, and that it ends with the one that started it, is common.handing's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from wharf.common import handing, report
from wharf.common.handing import start_worker
from wharf.common.log import get_log
from wharf.common.metrics import Family
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life.line import HEAD, BadFrame, Word, parse_head

_log = get_log("gateway.workers")


@dataclass(frozen=True, slots=True)
class Handed:
    """What a worker is started with. `line`: its own descriptor of a socket to the parent."""

    config: GatewayConfig
    worker: int  # from 0
    parent: int  # process
    line: int
    shares: str  # path of the Unix socket where the parent shares limits
    replicas: int  # workers of this instance
    secret: bytes = field(repr=False)  # the same in all of them, for digests of tokens


class Child:
    """A running worker. For the loop thread."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, worker: int) -> None:
        self.worker = worker
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.unready_reason = "starting"
        self.families: Sequence[Family] = ()  # what it has counted
        self.status: bytes = b""  # what it knows of the servers, JSON
        self._process, self._line = process, line
        self._loop = asyncio.get_running_loop()
        self.began: asyncio.Future[bool] = self._loop.create_future()  # True: it serves; False: it ended before
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

    def signal(self, number: signal.Signals) -> None:
        if not self.ended.is_set():
            self._process.send_signal(number)

    async def close(self) -> None:
        """Kill it if it still runs, and let go of it."""
        self.signal(signal.SIGKILL)
        await self.ended.wait()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    def _over(self) -> None:
        self._loop.remove_reader(self._end)
        os.close(self._end)
        self._process.wait()  # it is over: this only takes the code
        if not self.began.done():
            self.began.set_result(False)
        self.ended.set()

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=self._line)
        try:
            while True:
                word, length = parse_head(await reader.readexactly(HEAD))
                self._take(word, await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # it is going
        except (BadFrame, report.BadReport) as error:
            _log.error("a worker says what cannot be read", worker=self.worker, reason=str(error))
            self.signal(signal.SIGKILL)  # nobody would hear of it any more
        finally:
            writer.close()

    def _take(self, word: Word, body: bytes) -> None:
        if not self.began.done():
            self.began.set_result(True)
        if word is Word.READY:
            self.ready.set()
        elif word is Word.UNREADY:
            self.unready_reason = body.decode()
            self.ready.clear()
        elif word is Word.METRICS:
            self.families = report.decode(body[report.HEAD :])
        else:
            self.status = body


def start(config: GatewayConfig, worker: int, shares: str, secret: bytes, environment: Mapping[str, str]) -> Child:
    """A new worker. OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    try:
        handed = Handed(config, worker, os.getpid(), theirs.fileno(), shares, config.workers, secret)
        process = start_worker("wharf.gateway", handed, (theirs.fileno(),), environment)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, ours, worker)


def taken(argv: Sequence[str]) -> Handed | None:
    """In a process that was started as a worker: what it was handed; see common.handing."""
    return cast("Handed | None", handing.taken(argv))
