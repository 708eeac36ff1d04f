"""One child process with a log file: started, known to be ready by an event, stopped with its whole process group.

It owns the pid. Invariants: a process is ended by its own process group, never by name; `stop` always leaves it dead
and reaped; a process that dies before it is ready fails with the end of its log, not with a timeout.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.02
_TAIL_BYTES = 3000


class ProcessFailedError(RuntimeError):
    """A process died or did not become ready in time; the message carries the end of its log."""


class Process:
    """A child in its own session; its output goes to a file."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.argv = tuple(str(word) for word in argv)
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> Process:
        """Start it (again). The log file is appended to."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._log_start = out.tell()
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """The process id; of the last one if it is over."""
        if self._child is None:
            raise ProcessFailedError(f"{self.name} was never started")
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Started and not over."""
        return self._child is not None and self._child.poll() is None

    def output(self) -> str:
        """What it has logged since the last start."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def tail(self) -> str:
        """The end of its log, for people."""
        return self.output()[-_TAIL_BYTES:]

    def wait_ready(self, is_ready: Callable[[], bool], timeout: float) -> None:
        """Return when `is_ready` says so; raise when the process dies first or time is up."""
        deadline = time.monotonic() + timeout
        while not is_ready():
            if not self.running:
                raise ProcessFailedError(f"{self.name} ended with code {self.returncode}; its log ends:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} was not ready in {timeout:.0f} s; its log ends:\n{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def wait_logged(self, text: str, timeout: float) -> None:
        """Return when it has logged `text` since its start."""
        self.wait_ready(lambda: text in self.output(), timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """A signal to the process alone (not to its children)."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group, at once; reaped on return."""
        self._end(signal.SIGKILL)

    def stop(self, timeout: float = 10.0) -> int | None:
        """SIGTERM, time to finish, then SIGKILL to whatever of the group is left. Returns the exit code."""
        if self._child is None:
            return None
        if self.running:
            os.killpg(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)
        self._end(signal.SIGKILL)
        return self.returncode

    def _end(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):  # the whole group is gone already
            os.killpg(self._child.pid, number)
        self._child.wait()
