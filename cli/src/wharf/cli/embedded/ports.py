"""Ports of the embedded system: the usual ones, free ones, and who holds a taken one.

Everything listens on the loopback address only, so that is where a port must be free.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from wharf.cli.embedded.plan import Port

LOOPBACK: Final = "127.0.0.1"
BRAIN: Final = "brain"
APISERVER: Final = "kube-apiserver"
CONTROLLERS: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen; 0 is any free port."""

    apiserver: int = 16443
    brain: int = 2379
    brain_health: int = 2381
    controller_manager: int = 10257
    scheduler: int = 10259
    gateway: int = 6443
    gateway_health: int = 6442

    def chosen(self) -> Ports:
        """The same with every 0 replaced."""
        return replace(self, **{one.name: free_port() for one in fields(self) if getattr(self, one.name) == 0})

    def table(self) -> list[Port]:
        return [
            Port(part=APISERVER, number=self.apiserver, flag="--port"),
            Port(part=BRAIN, number=self.brain, flag="--brain-port"),
            Port(part=BRAIN, number=self.brain_health, flag="--brain-health-port"),
            Port(part=CONTROLLERS, number=self.controller_manager, flag="--controller-manager-port"),
            Port(part=SCHEDULER, number=self.scheduler, flag="--scheduler-port"),
            Port(part=GATEWAY, number=self.gateway, flag="--gateway-port"),
            Port(part=GATEWAY, number=self.gateway_health, flag="--gateway-health-port"),
        ]


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def conflicts(ports: Sequence[Port]) -> list[str]:
    """One line for each port that cannot be had, with what to do about it."""
    found = []
    for at, port in enumerate(ports):
        twin = next((other for other in ports[:at] if other.number == port.number), None)
        if twin is not None:
            found.append(f"port {port.number} is wanted by {twin.part} and {port.part}; change {port.flag}")
        elif not _is_free(port.number):
            holder = _holder(port.number)
            found.append(
                f"port {port.number} ({port.part}) is taken{f' by {holder}' if holder else ''}; "
                f"stop that, or choose another port with {port.flag} (0: any free one)"
            )
    return found


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of an earlier run in TIME_WAIT are no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
    return True


def _holder(number: int) -> str:
    """ "name (pid N)" of who listens on the port, as far as this user may see it; else empty."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in listening(_read(Path("/proc/net") / table), number)}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return f"{_read(process / 'comm').strip()} (pid {process.name})"
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def listening(table: str, number: int) -> Iterable[str]:
    """Inodes of the sockets that listen on a port, from the text of /proc/net/tcp."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == number:
            yield fields[9]
