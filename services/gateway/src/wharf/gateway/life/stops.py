"""What signals tell a process: to stop, to hurry, nothing.

The first SIGTERM or SIGINT asks for a stop in good order, the next one cuts every wait of it short. A worker is told to
hurry by SIGUSR1 from its parent alone: whoever signals a whole process group would otherwise ask it twice at once.
SIGHUP means nothing here: configuration and certificates are read again by themselves, and a lost terminal is no
reason to drop clients.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from wharf.common.log import get_log

HURRY = signal.SIGUSR1  # from the parent to a worker

_log = get_log("gateway")


class Stops:
    """Signal handlers of the running loop."""

    def __init__(self, worker: bool) -> None:
        self.stop = asyncio.Event()
        self._worker = worker
        self._hurried = False
        self._hurry: Callable[[], None] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        if worker:
            loop.add_signal_handler(HURRY, self._told_to_hurry)

    def when_hurried(self, call: Callable[[], None]) -> None:
        """`call` once, now if it has happened already."""
        self._hurry = call
        if self._hurried:
            call()

    def _asked(self) -> None:
        if self.stop.is_set() and not self._worker:
            self._told_to_hurry()
        self.stop.set()

    def _told_to_hurry(self) -> None:
        self.stop.set()
        if self._hurried:
            return
        self._hurried = True
        _log.warn("asked again to stop: nothing is waited for any more")
        if self._hurry is not None:
            self._hurry()

    def _hung_up(self) -> None:
        _log.info("SIGHUP changes nothing: files are read again by themselves")
