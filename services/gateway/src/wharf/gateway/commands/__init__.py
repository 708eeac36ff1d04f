"""What `wharf gateway` does beside serving: convert, check, crd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

Run = Callable[[Sequence[str]], int]

COMMANDS: Final = ("check", "convert", "crd")


def find_command(argv: Sequence[str]) -> tuple[Run, Sequence[str]] | None:
    """The command these words begin with, and its own words; None: serve."""
    if not argv or argv[0] not in COMMANDS:
        return None
    run: Run = import_module(f"wharf.gateway.commands.{argv[0]}").run  # the others need not be loaded
    return run, argv[1:]
