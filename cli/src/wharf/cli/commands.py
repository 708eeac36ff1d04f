"""The commands and their help."""

from __future__ import annotations

from typing import Annotated

import typer
from wharf.cli import up
from wharf.cli.brain import run_brain
from wharf.cli.gateway import run_gateway
from wharf.cli.version import version

app = typer.Typer(
    name="wharf",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def wharf(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A Kubernetes control plane whose state lives on brain."""


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def brain(context: typer.Context) -> None:
    """Run the store alone: etcd's API, etcd's flags (`wharf brain --help` lists them)."""
    raise typer.Exit(run_brain(context.args))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def gateway(context: typer.Context) -> None:
    """Run the gateway alone, in front of any kube-apiservers (`wharf gateway --help` lists its flags)."""
    raise typer.Exit(run_gateway(context.args))


app.command(context_settings={"auto_envvar_prefix": "WHARF_UP"})(up.up)
app.command()(up.status)
app.command()(up.down)
app.command()(version)
