"""How a command fails: one clear line (or a few) and an exit code."""

from __future__ import annotations


class CommandError(Exception):
    """What went wrong and what to do, in words for whoever typed the command."""

    exit_code = 1
