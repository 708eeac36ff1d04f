"""`wharf up` step by step: claim the directory, check ports, find programs, make certificates, run.

Everything that can be refused is refused before the first process starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wharf.cli.embedded import events, identity, state
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.gateway import CLUSTER
from wharf.cli.embedded.inspect import OK, inspect
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part
from wharf.cli.embedded.ports import APISERVER, Ports, conflicts
from wharf.cli.embedded.run import INTERRUPTED, run_detached, run_here
from wharf.cli.embedded.state import SystemState
from wharf.cli.embedded.system import BINARIES, Binary, build
from wharf.cli.errors import CommandError
from wharf.cli.kube.binaries import locate, tell_version
from wharf.cli.kube.build import BuildError
from wharf.cli.kube.recipes import recipe, version_in
from wharf.cli.kube.toolchain import GoMissingError
from wharf.cli.kube.wrapper import ReleaseError
from wharf.cli.view import Progress, Terminal, next_steps, print_report, print_up, results
from wharf.gateway.commands.check import claims_lost


@dataclass(frozen=True, slots=True)
class Start:
    """What was asked for."""

    layout: Layout
    ports: Ports
    kube_version: str | None
    kube_bin: Path | None
    detach: bool


def start(asked: Start) -> None:
    """Bring the system up and, unless detached, keep it up until it is stopped. CommandError when it cannot be."""
    progress = Progress(Terminal(stderr=True))
    layout = asked.layout
    layout.make()
    if not _claim(asked):
        return
    ports = asked.ports.chosen()
    if problems := conflicts(ports.table()):
        raise CommandError("\n".join(problems))
    binaries = _binaries(asked.kube_bin, asked.kube_version, progress)
    # Not earlier: programs built into the cache are not private. Later, every file is the system's own, and the parts
    # inherit this.
    os.umask(0o077)
    parts = build(layout, ports, binaries)
    if lost := claims_lost(layout.clusters, CLUSTER):
        raise CommandError("\n".join(f"{line}; give it another name or address there" for line in lost))
    at_hand = str(binaries["kubectl"].path)
    kubectl = "kubectl" if shutil.which("kubectl") == at_hand else at_hand
    view = _View(parts, next_steps(layout.kubeconfig, kubectl, layout.flags), asked.detach, progress)
    try:
        code = (run_detached if asked.detach else run_here)(layout, parts, view.on_event)
    finally:
        progress.close()
    if view.failure:
        raise CommandError(view.failure)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        status = f"`wharf status{layout.flags}` says how"
        raise CommandError(f"every part has ended; {status}, logs are in {layout.log('*').parent}")


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


def _claim(asked: Start) -> bool:
    """Take the directory for this run, for as long as this process or the supervisor forked from it lives.

    False when a system that is well and as asked for runs there already and the caller only wanted one to run.
    """
    layout = asked.layout
    system = state.load(layout.state)
    if layout.claim() is None:
        report = inspect(system) if asked.detach and system is not None else None
        differs = [] if report is None else differences(asked, report.system)
        if report is not None and report.ok and not differs:
            console = results()
            console.print("[bold green]wharf is up already[/]")
            print_report(console, report, layout.flags)
            return False
        unwell = (
            [] if report is None else [f"{one.part.name}: {one.health}" for one in report.parts if one.health != OK]
        )
        running = f"a system is running in {layout.root} already" + "".join(f"; {one}" for one in (*unwell, *differs))
        raise CommandError(f"{running}; `wharf status{layout.flags}` shows it, `wharf down{layout.flags}` ends it")
    left = [part for part in system.parts if identity.is_alive(part.who)] if system is not None else []
    if left:
        names = ", ".join(f"{part.name} (pid {part.who.pid})" for part in left)
        ends = f"`wharf down{layout.flags}` ends them"
        raise CommandError(f"{names} of an earlier run still live without a supervisor; {ends}")
    layout.state.unlink(missing_ok=True)
    return True


def differences(asked: Start, running: SystemState) -> list[str]:
    """What was asked for explicitly and is not how the running system is."""
    usual = {port.flag: port.number for port in Ports().table()}
    parts = {part.name: part for part in running.parts}
    found = []
    for port in asked.ports.table():
        part = parts.get(port.part)
        if part is None or port.number in (0, usual[port.flag]):
            continue
        if port.number not in (_port_of(part.endpoint), _port_of(part.health.url)):
            found.append(f"{port.flag} {port.number} is not its {port.part}'s ({part.endpoint})")
    apiserver = parts.get(APISERVER)
    wanted = asked.kube_version and f"v{asked.kube_version.removeprefix('v')}"
    if wanted and apiserver is not None and apiserver.version != wanted:
        found.append(f"its kube-apiserver is {apiserver.version}, not {wanted}")
    return found


def _port_of(url: str) -> int | None:
    return urlsplit(url).port


def _binaries(folder: Path | None, version: str | None, progress: Progress) -> dict[str, Binary]:
    found = {}
    for name in BINARIES:
        try:
            path = locate(name, folder=folder, version=version, report=progress.line)
        except (BuildError, GoMissingError, ReleaseError) as error:
            programs = ", ".join(BINARIES)
            raise CommandError(
                f"{name} is not at hand and cannot be built here; give a folder that holds {programs} with --kube-bin "
                f"DIR, or let this machine reach a Go module proxy. The build said: {error}"
            ) from error
        told = version_in(path.parent.name) or tell_version(recipe(name), path)
        found[name] = Binary(path, f"v{told}" if told else "unknown version")
    if mixed := different_releases(found):
        progress.line(f"warning: {mixed}; give all of them in --kube-bin, or --kube-version")
    return found


def different_releases(binaries: Mapping[str, Binary]) -> str:
    """Says that the programs are not all of one Kubernetes minor release; empty if they are."""
    minors = {binary.version.rpartition(".")[0] for binary in binaries.values()}
    if len(minors) == 1:
        return ""
    return "the programs are of different releases: " + ", ".join(f"{n} {b.version}" for n, b in binaries.items())
