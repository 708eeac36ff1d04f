"""`wharf up`, `wharf status`, `wharf down`: the embedded system."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from wharf.cli.embedded import state
from wharf.cli.embedded.down import take_down
from wharf.cli.embedded.inspect import inspect
from wharf.cli.embedded.layout import Layout, default_root
from wharf.cli.embedded.ports import Ports
from wharf.cli.errors import CommandError
from wharf.cli.view import Progress, Terminal, as_document, print_document, print_report, results

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


def _checked_port(number: int) -> int:
    if not 0 <= number <= 65535:
        raise typer.BadParameter(f"{number} is not a port; allowed: 0 to 65535")
    return number


DEFAULT_PORTS = Ports()


def _port(what: str) -> Any:
    """A port option; typer takes any object as an option's description."""
    panel = "Ports on 127.0.0.1 (0: any free one; environment: WHARF_UP_<FLAG>)"
    # A range given as min and max would take a column of its own and cut the longer names at 80 columns.
    return typer.Option(callback=_checked_port, help=what, metavar="PORT", rich_help_panel=panel, show_envvar=False)


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
            resolve_path=True,
        ),
    ] = None,
    port: Annotated[int, _port("kube-apiserver itself.")] = DEFAULT_PORTS.apiserver,
    brain_port: Annotated[int, _port("brain, etcd's API.")] = DEFAULT_PORTS.brain,
    brain_health_port: Annotated[int, _port("brain's health and metrics.")] = DEFAULT_PORTS.brain_health,
    controller_manager_port: Annotated[int, _port("kube-controller-manager.")] = DEFAULT_PORTS.controller_manager,
    scheduler_port: Annotated[int, _port("kube-scheduler.")] = DEFAULT_PORTS.scheduler,
    gateway_port: Annotated[int, _port("The gateway, which the kubeconfig names.")] = DEFAULT_PORTS.gateway,
    gateway_health_port: Annotated[int, _port("The gateway's health and metrics.")] = DEFAULT_PORTS.gateway_health,
) -> None:
    """Run a Kubernetes control plane on brain, behind the gateway: all on this machine, on loopback, with certificates.

    Ctrl-C stops it; what was stored is there again at the next start.
    """
    from wharf.cli.embedded.start import Start, start  # noqa: PLC0415 certificates and asyncio: only when needed

    ports = Ports(
        apiserver=port,
        brain=brain_port,
        brain_health=brain_health_port,
        controller_manager=controller_manager_port,
        scheduler=scheduler_port,
        gateway=gateway_port,
        gateway_health=gateway_health_port,
    )
    start(Start(_layout(dir), ports, kube_version, kube_bin, detach))


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
        raise CommandError(f"nothing is running in {layout.root}; `wharf up{layout.flags}` starts it")
    report = inspect(system)
    if output is Output.JSON:
        print_document(as_document(report))
    else:
        print_report(results(), report, layout.flags)
    if not report.ok:
        raise typer.Exit(1)


def down(dir: Dir = None) -> None:
    """Stop the running system in order. Nothing stored is lost; with nothing running it does nothing."""
    layout = _layout(dir)
    progress = Progress(Terminal(stderr=True))
    system = state.load(layout.state)
    if system is None:
        progress.line(f"nothing is running in {layout.root}")
        return
    if not take_down(layout, system, progress.line):
        raise CommandError(f"some parts did not end; `wharf status{layout.flags}` shows them")
    progress.line("wharf is down")


def _layout(dir: Path | None) -> Layout:
    return Layout((dir if dir is not None else default_root()).expanduser().absolute())
