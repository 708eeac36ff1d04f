"""What `wharf status` and `wharf down` know about a running system: a file beside it, written by its supervisor.

Invariant: the file is whole at every moment (written aside and renamed), private, and never trusted about who a pid is:
readers verify the identity it records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from wharf.cli.embedded.identity import Identity
from wharf.cli.embedded.plan import Health, Part
from wharf.common.private_files import create_private

FORMAT: Final = 1

STARTING: Final = "starting"
READY: Final = "ready"
DIED: Final = "died"
STOPPED: Final = "stopped"


class StateError(Exception):
    """The state file cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PartState:
    """One part as its supervisor last saw it."""

    name: str
    who: Identity
    phase: str
    since: float  # Unix time of entering the phase
    endpoint: str
    version: str
    log: str
    after: tuple[str, ...]
    stop_within: float
    health: Health
    end: str = ""  # how it ended: "exit code 1", "killed by SIGKILL"


@dataclass(frozen=True, slots=True)
class SystemState:
    """A system under a supervisor."""

    supervisor: Identity
    since: float  # Unix time
    kubeconfig: str
    parts: tuple[PartState, ...] = ()

    def with_part(self, part: PartState) -> SystemState:
        """The state with this part added, or in the place of its predecessor."""
        if any(old.name == part.name for old in self.parts):
            return replace(self, parts=tuple(part if old.name == part.name else old for old in self.parts))
        return replace(self, parts=(*self.parts, part))

    def part(self, name: str) -> PartState:
        return next(part for part in self.parts if part.name == name)


def begun(part: Part, who: Identity, log: Path, now: float) -> PartState:
    """The first state of a part that has just been started."""
    return PartState(
        part.name,
        who,
        STARTING,
        now,
        part.endpoint,
        part.version,
        str(log),
        part.after,
        part.stop_within,
        part.health,
    )


def encode(state: SystemState) -> str:
    return json.dumps({"format": FORMAT, **asdict(state)}, indent=1, default=str)


def decode(text: str) -> SystemState:
    """The state in `text`; StateError when it is none, or one of another release."""
    try:
        document = json.loads(text)
        if document.get("format") != FORMAT:
            raise StateError(f"is of format {document.get('format')}, this wharf reads format {FORMAT}")
        return SystemState(
            Identity(**document["supervisor"]),
            float(document["since"]),
            document["kubeconfig"],
            tuple(_part(part) for part in document["parts"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"is damaged ({type(error).__name__}: {error})") from error


def _part(document: Mapping[str, Any]) -> PartState:
    health = document["health"]
    paths = {name: Path(health[name]) if health[name] else None for name in ("ca", "cert", "key")}
    return PartState(
        **{
            **document,
            "who": Identity(**document["who"]),
            "after": tuple(document["after"]),
            "health": Health(health["url"], **paths),
        }
    )


def load(path: Path) -> SystemState | None:
    """The recorded state; None when there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return decode(text)
    except StateError as error:
        raise StateError(f"{path} {error}; if nothing of it runs any more, remove the file") from error


def save(path: Path, state: SystemState) -> None:
    scratch = path.with_name(f".{path.name}.new")
    with create_private(scratch, replace=True) as file:
        file.write(encode(state).encode())
    scratch.replace(path)
