"""The `wharf` command: one group per file, errors as one line and an exit code.

A service's own command line goes through untouched and before anything else is imported, so that it starts without
paying for a terminal interface.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

DEBUG_FLAG = "--debug"
_INTERRUPTED = 130  # as a shell reports a death by SIGINT


def run() -> None:
    """The entry point."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code. `--debug`, or WHARF_DEBUG, shows the traceback of an error."""
    leading = bool(argv) and argv[0] == DEBUG_FLAG
    service = _service(argv[leading]) if len(argv) > leading else None
    if service is not None:
        return service([*argv[:leading], *argv[leading + 1 :]])
    debug = DEBUG_FLAG in argv or bool(os.environ.get("WHARF_DEBUG"))
    try:
        return _run_command([word for word in argv if word != DEBUG_FLAG])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)


def _service(command: str) -> Callable[[Sequence[str]], int] | None:
    """The service that reads the rest of its command line itself; None: another command."""
    if command == "brain":
        from wharf.cli.brain import run_brain  # noqa: PLC0415

        return run_brain
    if command == "gateway":
        from wharf.cli.gateway import run_gateway  # noqa: PLC0415

        return run_gateway
    return None


def _run_command(argv: Sequence[str]) -> int:
    import typer.main  # noqa: PLC0415
    from wharf.cli.commands import app  # noqa: PLC0415

    try:
        typer.main.get_command(app).main(list(argv), prog_name="wharf")
    except SystemExit as end:  # how it ends in any case; a mistyped flag has been explained by then
        if end.code == _INTERRUPTED:
            raise KeyboardInterrupt from None
        return end.code if isinstance(end.code, int) else 0
    return 0


def _explain(error: Exception) -> int:
    from wharf.cli.embedded.layout import LayoutError  # noqa: PLC0415
    from wharf.cli.embedded.state import StateError  # noqa: PLC0415
    from wharf.cli.errors import CommandError  # noqa: PLC0415

    if isinstance(error, CommandError | LayoutError | StateError):
        print(f"error: {error}", file=sys.stderr)
        return CommandError.exit_code
    print(f"error: {type(error).__name__}: {error} ({DEBUG_FLAG} shows where)", file=sys.stderr)
    return 1
