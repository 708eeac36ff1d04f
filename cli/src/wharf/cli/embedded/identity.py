"""Which process a recorded pid means: pid, start time and boot, so that a reused pid is never taken for ours.

Invariant: a signal goes out only through a pidfd whose process was verified after the pidfd was opened.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

_STARTED_FIELD = 19  # of /proc/<pid>/stat, counted from the one after the name


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of one machine."""

    pid: int
    started: int  # clock ticks since boot
    boot: str


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """Who has this pid now; None when nobody has, or only a corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Identity(pid, int(fields[_STARTED_FIELD]), boot_id())


def is_alive(who: Identity) -> bool:
    return identify(who.pid) == who


def send(who: Identity, number: signal.Signals) -> bool:
    """Signal this very process; False when it is gone."""
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(who.pid) != who:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(who: Identity, timeout: float) -> bool:
    """True when the process has ended, or ends within `timeout` seconds."""
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return True
    try:
        if identify(who.pid) != who:
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(handle)


def kill_group(who: Identity) -> None:
    """SIGKILL to what is left of the process group that this process led."""
    try:
        os.killpg(who.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
