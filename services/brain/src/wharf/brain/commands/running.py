"""How a command of `wharf brain` runs and how it fails: a line on stdout and 0, or lines on stderr and another code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

from wharf.brain.engine.base import EngineError
from wharf.common.config import ConfigError, HelpRequested
from wharf.common.parsers import hide_password


class CommandFailed(Exception):
    """A command could not do its work; the text is for the terminal."""

    exit_code = 1


class Interrupted(CommandFailed):
    """Somebody wanted it to end."""

    exit_code = 130  # as a shell reports a death by SIGINT


def shown(engine: str) -> str:
    """An engine's URL for people: what follows its path may hold secrets too."""
    return hide_password(engine.partition("?")[0])


def run(work: Callable[[], str]) -> int:
    """Do the work and print what it returns; the exit code."""
    try:
        sys.stdout.write(work() + "\n")
    except HelpRequested as help_:
        sys.stdout.write(help_.text)
    except ConfigError as error:
        sys.stderr.write("".join(f"wharf brain: {problem}\n" for problem in error.problems))
        return error.exit_code
    except CommandFailed as error:
        sys.stderr.write(f"wharf brain: {error}\n")
        return error.exit_code
    except (EngineError, OSError) as error:
        sys.stderr.write(f"wharf brain: {error}\n")
        return 1
    return 0


async def interruptible(work: Awaitable[str], on_signal: Callable[[], bool], interrupted: str) -> str:
    """What the work returns; SIGINT and SIGTERM end it at once unless `on_signal` deals with them (True).

    `interrupted`: what to tell when it was ended.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def end() -> None:
        if not on_signal():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted(interrupted) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
