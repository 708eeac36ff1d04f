"""What `up`, `status` and `down` print: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from wharf.cli.embedded import events
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.inspect import OK, SystemReport

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WIDTH = 160  # a narrower terminal folds lines itself; a pipe wants them whole


class Terminal(Console):
    """A console whose reader may leave (`wharf up | head`) without ending what runs."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def results() -> Console:
    """stdout, wide enough that no address is cut."""
    console = Terminal()
    return console if console.width >= _WIDTH else Terminal(width=_WIDTH)


class Progress:
    """Shows a start, a death, a stop: one line per fact, and on a terminal a spinner with what is awaited."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting: list[str] = []
        self._status: Status | None = None

    def line(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def on_event(self, event: Event) -> None:
        took = f"{event.seconds:.1f} s"
        if event.kind == events.STARTING:
            self._waiting.append(event.part)
        elif event.kind == events.READY:
            self._waiting.remove(event.part)
            self._print("[green]✓[/]", f"{event.part:<24} ready in {took:<7} {event.text}")
        elif event.kind == events.DIED:
            self._print("[red]✗[/]", event.text)
        elif event.kind == events.KILLED:
            self._print("[yellow]![/]", f"{event.part} did not end within {took}; killed")
        elif event.kind == events.STOPPED:
            self._print("[dim]-[/]", f"{event.part:<24} stopped in {took}")
        elif event.kind in events.OVER or event.kind == events.STOPPING:
            self._waiting.clear()
        self._spin()

    def close(self) -> None:
        """Give the terminal back as it was, however the start ended."""
        self._waiting.clear()
        self._spin()

    def _print(self, mark: str, text: str) -> None:
        self._console.print(f"{mark} {escape(text)}", highlight=False, soft_wrap=True)

    def _spin(self) -> None:
        if not self._console.is_terminal:
            return
        if not self._waiting:
            if self._status is not None:
                self._status.stop()
                self._status = None
            return
        text = f"starting {', '.join(self._waiting)}"
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)


def next_steps(kubeconfig: Path, kubectl: str, suffix: str) -> list[str]:
    """Commands to go on with, as they can be typed here; `suffix`: flags that find this system again."""
    called = Path(sys.argv[0])
    wharf = "wharf" if called.name != "wharf" or shutil.which("wharf") == str(called.absolute()) else sys.argv[0]
    return [
        f"export KUBECONFIG={kubeconfig}",
        f"{kubectl} get namespaces",
        f"{wharf} status{suffix}",
        f"{wharf} down{suffix}",
    ]


def print_up(console: Console, headline: str, parts: Sequence[tuple[str, str, str]], steps: Sequence[str]) -> None:
    """The system is up: each part's name, endpoint and version, and what to do with it."""
    console.print(f"\n[bold green]{headline}[/]", highlight=False)
    grid = Table.grid(padding=(0, 2))
    for name, endpoint, version in parts:
        grid.add_row(f"  {name}", escape(endpoint), escape(version))
    console.print(grid)
    console.print("\nNext", style="bold")
    for step in steps:
        console.print(f"  {escape(step)}", highlight=False, soft_wrap=True)


def print_report(console: Console, report: SystemReport, flags: str = "") -> None:
    """`wharf status` for people; `flags`: those with which other commands find this system."""
    now = time.time()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("PART", "PID", "HEALTH", "SINCE", "VERSION", "ENDPOINT"):
        table.add_column(column, no_wrap=True)
    for one in report.parts:
        style = "green" if one.health == OK else "red"
        table.add_row(
            one.part.name,
            str(one.part.who.pid) if one.alive else "-",
            f"[{style}]{escape(one.health)}[/]",
            age(now - one.part.since),
            one.part.version,
            one.part.endpoint,
        )
    console.print(table)
    if not report.supervised:
        down = escape(f"`wharf down{flags}` ends what is left")
        console.print(f"[red]the supervisor is gone[/]; {down}", highlight=False, soft_wrap=True)
    for one in report.parts:
        if one.health != OK:
            console.print(f"{one.part.name}: log {escape(one.part.log)}", highlight=False, soft_wrap=True)


def as_document(report: SystemReport) -> Mapping[str, Any]:
    """`wharf status --output json`."""
    return {
        "ok": report.ok,
        "supervisor": {
            "pid": report.system.supervisor.pid,
            "alive": report.supervised,
            "since": _stamp(report.system.since),
        },
        "kubeconfig": report.system.kubeconfig,
        "parts": [
            {
                "name": one.part.name,
                "pid": one.part.who.pid if one.alive else None,
                "ok": one.health == OK,
                "health": one.health,
                "endpoint": one.part.endpoint,
                "version": one.part.version,
                "since": _stamp(one.part.since),
                "log": one.part.log,
            }
            for one in report.parts
        ],
    }


def print_document(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def age(seconds: float) -> str:
    """A duration at a glance: 42s, 7m, 3h12m, 5d."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d"


def _stamp(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
