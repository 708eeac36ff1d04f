"""How a command of `wharf brain` runs and how it fails: a line on stdout and 0, or lines on stderr and another code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from wharf.brain.engine.base import EngineError
from wharf.common.config import Config, Loaded, Schema, check_files, load, show_traceback
from wharf.common.redact import hide_password
from wharf.common.start_errors import check_authorities, check_certificate_pair

C = TypeVar("C", bound=Config)


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
    """Do the work and print what it returns; the exit code. ConfigError and HelpRequested pass."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core logs about a refused handshake helps no reader
    try:
        sys.stdout.write(work() + "\n")
    except CommandFailed as error:
        sys.stderr.write(f"wharf brain: {error}\n")
        show_traceback()
        return error.exit_code
    except (EngineError, OSError) as error:
        sys.stderr.write(f"wharf brain: {hide_password(str(error))}\n")
        show_traceback()
        return 1
    return 0


def load_checked(schema: Schema[C], argv: Sequence[str], environment: Mapping[str, str]) -> Loaded[C]:
    """The command's settings, with every file they name readable. ConfigError, HelpRequested."""
    loaded = load(schema, argv, environment)
    check_files(schema, loaded.config)
    return loaded


def check_tls_files(prefix: str, cacert: Path | None, cert: Path | None, key: Path | None) -> None:
    """ConfigError for PEM files that cannot be used: gRPC would only say that a handshake failed."""
    if cacert is not None:
        check_authorities(f"--{prefix}cacert", cacert)
    if cert is not None:
        check_certificate_pair(f"--{prefix}cert, --{prefix}key", cert, key)


def check_login_flags(prefix: str, user: str, password_file: Path | None, cert: Path | None, key: Path | None) -> None:
    """ValueError if flags that belong together are not; `prefix`: what their names begin with."""
    if bool(user) != (password_file is not None):
        raise ValueError(f"--{prefix}user and --{prefix}password-file must be given together")
    if (cert is None) != (key is None):
        raise ValueError(f"--{prefix}cert and --{prefix}key must be given together")


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
