"""How a recorded system is doing right now: what its file says, checked against processes and health pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from wharf.cli.embedded import state
from wharf.cli.embedded.health import ask
from wharf.cli.embedded.identity import is_alive
from wharf.cli.embedded.state import PartState, SystemState

OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class PartReport:
    part: PartState
    alive: bool
    health: str  # OK, or what is wrong


@dataclass(frozen=True, slots=True)
class SystemReport:
    system: SystemState
    supervised: bool  # the supervisor lives
    parts: tuple[PartReport, ...]

    @property
    def ok(self) -> bool:
        return self.supervised and bool(self.parts) and all(part.health == OK for part in self.parts)


def inspect(system: SystemState) -> SystemReport:
    """Ask every living part at once; takes no longer than the slowest answer."""
    with ThreadPoolExecutor(max(1, len(system.parts))) as pool:
        parts = tuple(pool.map(_look_at, system.parts))
    return SystemReport(system, is_alive(system.supervisor), parts)


def _look_at(part: PartState) -> PartReport:
    alive = is_alive(part.who)
    return PartReport(part, alive, judge(part, alive, ask(part.health) if alive else None))


def judge(part: PartState, alive: bool, trouble: str | None) -> str:
    """One part's health in words: what its supervisor wrote, whether the process lives, what it answered."""
    if not alive:
        if part.phase == state.DIED:
            return f"died: {part.end}"
        return part.phase if part.phase == state.STOPPED else "gone, and nobody saw it end"
    if trouble is None:
        return OK
    return f"starting: {trouble}" if part.phase == state.STARTING else f"unhealthy: {trouble}"
