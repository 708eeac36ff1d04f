"""How a command of `wharf brain` runs and how it fails: a line on stdout and 0, or lines on stderr and another code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from wharf.brain.engine.base import EngineError
from wharf.common.config import ConfigError, HelpRequested


class CommandFailed(Exception):
    """A command could not do its work; the text is for the terminal."""


def run(work: Callable[[], str]) -> int:
    """Do the work and print what it returns; the exit code."""
    try:
        sys.stdout.write(work() + "\n")
    except HelpRequested as help_:
        sys.stdout.write(help_.text)
    except ConfigError as error:
        sys.stderr.write("".join(f"wharf brain: {problem}\n" for problem in error.problems))
        return error.exit_code
    except (CommandFailed, EngineError, OSError) as error:
        sys.stderr.write(f"wharf brain: {error}\n")
        return 1
    return 0
