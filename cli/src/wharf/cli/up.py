"""`wharf up`, `wharf status`, `wharf down`: the embedded system."""

from __future__ import annotations

import os
import re
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from wharf.cli.embedded import events, identity, state
from wharf.cli.embedded.down import take_down
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.inspect import inspect
from wharf.cli.embedded.layout import Layout, default_root
from wharf.cli.embedded.plan import Part
from wharf.cli.embedded.ports import conflicts
from wharf.cli.embedded.run import Report, run_detached, run_here
from wharf.cli.embedded.system import BINARIES, Binary, Ports, build
from wharf.cli.errors import CommandError
from wharf.cli.kube.binaries import locate, tell_version
from wharf.cli.kube.recipes import recipe, version_in
from wharf.cli.view import Progress, as_document, next_steps, print_document, print_report, print_up, results

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        envvar="WHARF_DIR",
        help="Where the system keeps its data, certificates and logs. Default: ~/.local/share/wharf.",
        show_default=False,
        file_okay=False,
    ),
]


def _checked_release(text: str | None) -> str | None:
    if text is not None and re.fullmatch(r"v?\d+\.\d+\.\d+", text, re.ASCII) is None:
        raise typer.BadParameter(f"{text!r} is not a release; write it as 1.36.3")
    return text


DEFAULT_PORTS = Ports()
PortOption = typer.Option(min=0, max=65535, rich_help_panel="Ports (0: any free one)")


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


def up(  # noqa: PLR0913, PLR0917 one parameter per flag
    dir: Dir = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running in the background.")] = False,
    kube_version: Annotated[
        str | None,
        typer.Option(
            help="Kubernetes release to run, such as 1.36.3; built from source once if it is not at hand.",
            callback=_checked_release,
        ),
    ] = None,
    kube_bin: Annotated[
        Path | None,
        typer.Option(
            help="Folder with kube-apiserver, kube-controller-manager, kube-scheduler and kubectl to use.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    port: Annotated[int, PortOption] = DEFAULT_PORTS.apiserver,
    brain_port: Annotated[int, PortOption] = DEFAULT_PORTS.brain,
    brain_health_port: Annotated[int, PortOption] = DEFAULT_PORTS.brain_health,
    controller_manager_port: Annotated[int, PortOption] = DEFAULT_PORTS.controller_manager,
    scheduler_port: Annotated[int, PortOption] = DEFAULT_PORTS.scheduler,
) -> None:
    """Run a Kubernetes control plane on brain: everything on this machine, on loopback, with its own certificates.

    Ctrl-C stops it; what was stored is there again at the next start.
    """
    os.umask(0o077)
    progress = Progress(Console(stderr=True))
    layout = _layout(dir)
    suffix = "" if dir is None else f" --dir {dir}"
    layout.make()
    if not _claim(layout, suffix, again_is_fine=detach):
        return
    ports = Ports(
        apiserver=port,
        brain=brain_port,
        brain_health=brain_health_port,
        controller_manager=controller_manager_port,
        scheduler=scheduler_port,
    ).chosen()
    if problems := conflicts(ports.table()):
        raise CommandError("\n".join(problems))
    binaries = _binaries(kube_bin, kube_version, progress)
    parts = build(layout, ports, binaries)
    at_hand = str(binaries["kubectl"].path)
    kubectl = "kubectl" if shutil.which("kubectl") == at_hand else at_hand

    def report(event: Event) -> None:
        progress.on_event(event)
        if event.kind == events.UP:
            rows = [(part.name, part.endpoint, part.version) for part in parts]
            steps = next_steps(layout.kubeconfig, kubectl, suffix)
            print_up(results(), f"wharf is up ({event.seconds:.1f} s)", rows, steps)
            if not detach:
                progress.line("\nCtrl-C stops it.")

    _run(layout, parts, report, detach)


def _run(layout: Layout, parts: list[Part], report: Report, detach: bool) -> None:
    failure = ""

    def watch(event: Event) -> None:
        nonlocal failure
        report(event)
        failure = event.text if event.kind == events.FAILED else failure

    code = (run_detached if detach else run_here)(layout, parts, watch)
    if failure:
        raise CommandError(failure)
    if code:
        raise CommandError(f"every part has ended; `wharf status` says how, logs are in {layout.log('*').parent}")


def status(
    dir: Dir = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")] = Output.TABLE,
) -> None:
    """Show each part of the running system. Exit code 0: all of it is well; 1: not, or nothing runs."""
    layout = _layout(dir)
    system = state.load(layout.state)
    if system is None:
        if output is Output.JSON:
            print_document({"ok": False, "supervisor": None, "kubeconfig": None, "parts": []})
            raise typer.Exit(1)
        raise CommandError(f"nothing is running in {layout.root}; `wharf up` starts it")
    report = inspect(system)
    if output is Output.JSON:
        print_document(as_document(report))
    else:
        print_report(results(), report)
    if not report.ok:
        raise typer.Exit(1)


def down(dir: Dir = None) -> None:
    """Stop the running system in order. Nothing stored is lost; with nothing running it does nothing."""
    layout = _layout(dir)
    progress = Progress(Console(stderr=True))
    system = state.load(layout.state)
    if system is None:
        progress.line(f"nothing is running in {layout.root}")
        return
    if not take_down(layout, system, progress.line):
        raise CommandError("some parts did not end; `wharf status` shows them")
    progress.line("wharf is down")


def _layout(dir: Path | None) -> Layout:
    return Layout((dir if dir is not None else default_root()).expanduser().absolute())


def _claim(layout: Layout, suffix: str, again_is_fine: bool) -> bool:
    """Take the directory for this run, for as long as this process or the supervisor forked from it lives.

    False when a system that is well runs there already and the caller only wanted one to run.
    """
    system = state.load(layout.state)
    if layout.claim() is None:
        if again_is_fine and system is not None and inspect(system).ok:
            rows = [(part.name, part.endpoint, part.version) for part in system.parts]
            print_up(results(), "wharf is up already", rows, next_steps(layout.kubeconfig, "kubectl", suffix))
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
        path = locate(name, folder=folder, version=version, report=progress.line)
        told = version_in(path.parent.name) or tell_version(recipe(name), path)
        found[name] = Binary(path, f"v{told}" if told else "unknown version")
    return found
