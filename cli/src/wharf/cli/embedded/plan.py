"""What the embedded system is made of, and in which order it starts and stops (pure).

Adding a part is one `Part` in the table: which parts it comes after, how it says that it is ready, how long it may take
to stop. Invariant: a part starts when everything it comes after is ready, and stops before any of them does.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ORPHAN_GRACE = 3.0  # seconds


class PlanError(Exception):
    """A table of parts that has no order; a mistake in the program, not in its use."""


@dataclass(frozen=True, slots=True)
class Health:
    """Where a part answers 200 when it is well; the files verify it and show who asks."""

    url: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process of the system. Times in seconds."""

    name: str
    argv: tuple[str, ...]
    health: Health
    endpoint: str  # what a person would connect to
    version: str
    after: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ready_within: float = 120.0
    stop_within: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port the system listens on."""

    part: str
    number: int
    flag: str  # with which the user chooses another


def start_waves(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts in groups: a group starts when the ones before it are ready; order inside a group is the table's."""
    names = [part.name for part in parts]
    if len(set(names)) != len(names):
        raise PlanError(f"two parts with one name among {', '.join(names)}")
    for part in parts:
        unknown = [name for name in part.after if name not in names]
        if unknown:
            raise PlanError(f"{part.name} comes after {unknown[0]}, which is no part")
    return _waves(parts)


def _waves(parts: Iterable[Part]) -> list[list[Part]]:
    left = list(parts)
    started: set[str] = set()
    waves: list[list[Part]] = []
    while left:
        wave = [part for part in left if started.issuperset(part.after)]
        if not wave:
            raise PlanError(f"{', '.join(part.name for part in left)} wait for each other")
        waves.append(wave)
        started.update(part.name for part in wave)
        left = [part for part in left if part.name not in started]
    return waves


def stop_grace(part: Part, alive: Container[str]) -> float:
    """Seconds to leave a part for an orderly end; few when what it stands on is gone, since it would wait in vain."""
    return part.stop_within if all(name in alive for name in part.after) else min(part.stop_within, _ORPHAN_GRACE)


def stop_waves(after: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The order in which to stop what runs, from each part's `after`; parts no longer there hold nobody up."""
    waiting = {name: {other for other in befores if other in after} for name, befores in after.items()}
    waves: list[list[str]] = []
    while waiting:
        needed = set().union(*waiting.values())
        wave = [name for name in waiting if name not in needed]
        if not wave:
            raise PlanError(f"{', '.join(waiting)} wait for each other")
        waves.append(wave)
        waiting = {name: befores for name, befores in waiting.items() if name not in wave}
    return waves
