"""What operators do with a store that is not the server itself: `wharf brain snapshot save`, `restore`,
`check`, `import`, `export`, `step-down`.

Each command is a function of its own flags that returns an exit code and says on stderr what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wharf.brain.commands import files, moving, nodes

Command = Callable[[Sequence[str], Mapping[str, str]], int]


def find_command(argv: Sequence[str]) -> tuple[Command, Sequence[str]] | None:
    """(command, its own words) if `argv` begins with one."""
    match list(argv[:2]):
        case ["snapshot", "save"]:
            return files.save, argv[2:]
        case ["restore", *_]:
            return files.restore, argv[1:]
        case ["check", *_]:
            return files.check, argv[1:]
        case ["import", *_]:
            return moving.import_, argv[1:]
        case ["export", *_]:
            return moving.export, argv[1:]
        case ["step-down", *_]:
            return nodes.step_down, argv[1:]
    return None
