"""What operators do with a store that is not the server itself: `wharf brain snapshot save`, `restore`, `check`,
`import`, `export`, `step-down`.

Each command is a function of its own flags that returns an exit code and says on stderr what went wrong.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wharf.brain.commands import files, moving, nodes
from wharf.common.config import ConfigError

Command = Callable[[Sequence[str], Mapping[str, str]], int]

COMMANDS: Final[Mapping[str, tuple[Command, str]]] = {
    "snapshot save": (files.save, "write a consistent copy of a running store to a file"),
    "restore": (files.restore, "make a store out of such a copy"),
    "check": (files.check, "compare log, history and present of a stopped store or of a copy"),
    "import": (moving.import_, "make a store out of a running etcd, and follow it until cut-over"),
    "export": (moving.export, "write every key of a running brain into an empty etcd"),
    "step-down": (nodes.step_down, "hand leadership to another node"),
}
_HELP: Final = frozenset(("--help", "-help", "-h", "help"))


def find_command(argv: Sequence[str]) -> tuple[Command, Sequence[str]] | None:
    """(command, its own words) if `argv` begins with one; None: it is the server's. ConfigError for an unknown one."""
    for name, (command, _) in COMMANDS.items():
        words = name.split()
        if list(argv[: len(words)]) == words:
            return command, argv[len(words) :]
    if not argv or argv[0].startswith("-") or argv[0] == "version":
        return None
    if argv[0] == "help" or (any(name.startswith(f"{argv[0]} ") for name in COMMANDS) and _HELP & {*argv[1:2]}):
        return _show_overview, ()
    if argv[0] == "snapshot" and argv[1:2] and argv[1] in COMMANDS:
        raise ConfigError(f"unknown command 'snapshot {argv[1]}'; did you mean {argv[1]!r}?")
    begun = [name for name in COMMANDS if name.startswith(f"{argv[0]} ")]
    close = begun or difflib.get_close_matches(argv[0], COMMANDS, 1, 0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"unknown command {argv[0]!r}{hint} (`wharf brain help` lists the commands)")


def _show_overview(_: Sequence[str], __: Mapping[str, str]) -> int:
    lines = [f"  wharf brain {name:<14} {summary}" for name, (_, summary) in COMMANDS.items()]
    lines += [f"  {'wharf brain':<26} run the server", "", "Each has --help."]
    sys.stdout.write("\n".join(["Commands of wharf brain:", *lines, ""]))
    return 0
