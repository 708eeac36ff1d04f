"""Ends a recorded system: through its supervisor, or part by part when the supervisor is gone.

Invariant: only processes that the state file identifies (pid, start time, boot) get a signal.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from wharf.cli.embedded import identity
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import stop_waves
from wharf.cli.embedded.state import PartState, SystemState

_SPARE = 10.0  # seconds beyond what the parts may take


def take_down(layout: Layout, system: SystemState, report: Callable[[str], None]) -> bool:
    """True when nothing of the system runs any more and its state file is gone."""
    if identity.send(system.supervisor, signal.SIGTERM):
        report(f"stopping {', '.join(part.name for part in system.parts) or 'the supervisor'}")
        longest = sum(part.stop_within for part in system.parts) + _SPARE
        if not identity.wait_gone(system.supervisor, longest):
            report(f"the supervisor (pid {system.supervisor.pid}) did not end within {longest:.0f} s; ending it")
            identity.send(system.supervisor, signal.SIGKILL)
            identity.wait_gone(system.supervisor, _SPARE)
    _end_leftovers(system, report)
    if any(identity.is_alive(part.who) for part in system.parts):
        return False
    layout.state.unlink(missing_ok=True)
    return True


def _end_leftovers(system: SystemState, report: Callable[[str], None]) -> None:
    """Parts whose supervisor was killed, in stop order."""
    alive = {part.name: part for part in system.parts if identity.is_alive(part.who)}
    for wave in stop_waves({name: part.after for name, part in alive.items()}):
        for name in wave:
            report(f"stopping {name} (pid {alive[name].who.pid}), left without a supervisor")
            identity.send(alive[name].who, signal.SIGTERM)
        for name in wave:
            _wait_or_kill(alive[name], report)


def _wait_or_kill(part: PartState, report: Callable[[str], None]) -> None:
    if not identity.wait_gone(part.who, part.stop_within):
        report(f"{part.name} did not end within {part.stop_within:.0f} s; killing it")
        identity.send(part.who, signal.SIGKILL)
        identity.wait_gone(part.who, _SPARE)
