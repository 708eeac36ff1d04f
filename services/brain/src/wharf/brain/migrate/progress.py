"""How far a migration is, for whoever waits: a bar on a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Final, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY: Final = 5.0  # seconds between plain lines about the same thing
_UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


class View(Protocol):
    """Shows one migration."""

    def line(self, text: str) -> None:
        """A fact that stays on the screen."""

    def copied(self, what: str, keys: int, total: int, size: int) -> None:
        """`keys` of `total` are done, `size` bytes; `what` is done with them: "copying"."""

    def following(self, revision: int, source: int) -> None:
        """The copy is at `revision`, its source at `source`."""

    def close(self) -> None:
        """Give the terminal back."""


def view_on(stream: TextIO) -> View:
    """What suits the stream."""
    return Bar(Console(file=stream)) if stream.isatty() else Lines(stream)


def standing(what: str, keys: int, total: int, size: int) -> str:
    return f"{what}: {keys} of {total} keys, {readable(size)}"


def lag(revision: int, source: int) -> str:
    behind = max(source - revision, 0)
    return f"following: revision {revision}, {behind} behind" if behind else f"following: revision {revision}"


def readable(size: int) -> str:
    """Bytes at a glance."""
    for name, unit in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


class Lines:
    """For logs and pipes."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._next = 0.0
        self._last = ""

    def line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def copied(self, what: str, keys: int, total: int, size: int) -> None:
        self._sometimes(standing(what, keys, total, size), keys >= total)

    def following(self, revision: int, source: int) -> None:
        self._sometimes(lag(revision, source), False)

    def close(self) -> None:
        self._stream.flush()

    def _sometimes(self, text: str, last: bool) -> None:
        now = time.monotonic()
        if text != self._last and (last or now >= self._next):
            self._next, self._last = now + LINE_EVERY, text
            self.line(text)


class Bar:
    """For people."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
        )
        self._task: TaskID | None = None

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def copied(self, what: str, keys: int, total: int, size: int) -> None:
        self._show(standing(what, keys, total, size), keys, total)

    def following(self, revision: int, source: int) -> None:
        self._show(lag(revision, source), None, None)

    def close(self) -> None:
        self._progress.stop()

    def _show(self, text: str, done: int | None, total: int | None) -> None:
        if self._task is None:
            self._task = self._progress.add_task(text, total=total)
            self._progress.start()
        if total is None:
            self._progress.update(self._task, description=text, total=None)
        else:
            self._progress.update(self._task, description=text, completed=done, total=total)
