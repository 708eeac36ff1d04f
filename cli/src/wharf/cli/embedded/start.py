"""`wharf up` step by step: claim the directory, check ports, find programs, make certificates, run.

Everything that can be refused is refused before the first process starts.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.embedded import events, identity, state
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.inspect import inspect
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part
from wharf.cli.embedded.ports import Ports, conflicts
from wharf.cli.embedded.run import run_detached, run_here
from wharf.cli.embedded.system import BINARIES, Binary, build
from wharf.cli.errors import CommandError
from wharf.cli.kube.binaries import locate, tell_version
from wharf.cli.kube.build import BuildError
from wharf.cli.kube.recipes import recipe, version_in
from wharf.cli.kube.toolchain import GoMissingError
from wharf.cli.kube.wrapper import ReleaseError
from wharf.cli.view import Progress, Terminal, next_steps, print_report, print_up, results


@dataclass(frozen=True, slots=True)
class Start:
    """What was asked for."""

    layout: Layout
    ports: Ports
    kube_version: str | None
    kube_bin: Path | None
    detach: bool
    suffix: str  # flags with which other commands find this system


def start(asked: Start) -> None:
    """Bring the system up and, unless detached, keep it up until it is stopped. CommandError when it cannot be."""
    progress = Progress(Terminal(stderr=True))
    layout = asked.layout
    layout.make()
    if not _claim(layout, again_is_fine=asked.detach):
        return
    ports = asked.ports.chosen()
    if problems := conflicts(ports.table()):
        raise CommandError("\n".join(problems))
    binaries = _binaries(asked.kube_bin, asked.kube_version, progress)
    # Not earlier: programs built into the cache are not private. Later, every file is the system's own, and the parts
    # inherit this.
    os.umask(0o077)
    parts = build(layout, ports, binaries)
    at_hand = str(binaries["kubectl"].path)
    kubectl = "kubectl" if shutil.which("kubectl") == at_hand else at_hand
    view = _View(parts, next_steps(layout.kubeconfig, kubectl, asked.suffix), asked.detach, progress)
    try:
        code = (run_detached if asked.detach else run_here)(layout, parts, view.on_event)
    finally:
        progress.close()
    if view.failure:
        raise CommandError(view.failure)
    if code:
        raise CommandError(f"every part has ended; `wharf status` says how, logs are in {layout.log('*').parent}")


class _View:
    """Turns the supervisor's events into what the user sees."""

    def __init__(self, parts: list[Part], steps: list[str], detach: bool, progress: Progress) -> None:
        self._parts = parts
        self._steps = steps
        self._detach = detach
        self._progress = progress
        self.failure = ""

    def on_event(self, event: Event) -> None:
        self._progress.on_event(event)
        if event.kind == events.FAILED:
            self.failure = event.text
        elif event.kind == events.UP:
            rows = [(part.name, part.endpoint, part.version) for part in self._parts]
            print_up(results(), f"wharf is up ({event.seconds:.1f} s)", rows, self._steps)
            if not self._detach:
                self._progress.line("\nCtrl-C stops it.")


def _claim(layout: Layout, again_is_fine: bool) -> bool:
    """Take the directory for this run, for as long as this process or the supervisor forked from it lives.

    False when a system that is well runs there already and the caller only wanted one to run.
    """
    system = state.load(layout.state)
    if layout.claim() is None:
        report = inspect(system) if again_is_fine and system is not None else None
        if report is not None and report.ok:
            console = results()
            console.print("[bold green]wharf is up already[/]")
            print_report(console, report)
            return False
        raise CommandError(
            f"a system is running in {layout.root} already; `wharf status` shows it, `wharf down` ends it"
        )
    left = [part for part in system.parts if identity.is_alive(part.who)] if system is not None else []
    if left:
        names = ", ".join(f"{part.name} (pid {part.who.pid})" for part in left)
        raise CommandError(f"{names} of an earlier run still live without a supervisor; `wharf down` ends them")
    layout.state.unlink(missing_ok=True)
    return True


def _binaries(folder: Path | None, version: str | None, progress: Progress) -> dict[str, Binary]:
    found = {}
    for name in BINARIES:
        try:
            path = locate(name, folder=folder, version=version, report=progress.line)
        except (BuildError, GoMissingError, ReleaseError) as error:
            raise CommandError(str(error)) from error
        told = version_in(path.parent.name) or tell_version(recipe(name), path)
        found[name] = Binary(path, f"v{told}" if told else "unknown version")
    return found
