"""What servers that tests stand on have in common: a folder, a port they keep over restarts, a tree of processes.

A fault test freezes, kills and restarts such a server at will. Invariants: `kill` leaves nothing of the tree alive,
also what has moved into sessions of its own (PostgreSQL's backends do); a frozen tree is thawed or killed, never left
behind; the server comes back on the same data and the same port.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from wharf.cli.kube.pki import Authority, KeyPair
from wharf.cli.kube.process import Process

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.005
_given: set[int] = set()  # ports handed out by this process: they may not be bound yet


def lasting_port() -> int:
    """A free port outside the range the kernel takes for outgoing connections: nobody has it by chance while its server
    is down."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(12_000, low) if low > 13_000 else 0
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            port = int(probe.getsockname()[1])
            _given.add(port)
            return port


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(word) for word in task.read_text().split()]
    return found


class Daemon:
    """One server on loopback. `command` is what starts it; `ready_text` is what it logs once it answers."""

    ready_text: str

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self._made = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"wharf-{name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = lasting_port()
        self._frozen = False
        self.process = Process(name, [], self.folder / f"{name}.log")

    def command(self) -> Sequence[str | Path]:
        """The words that start it in the foreground."""
        raise AssertionError("every server has its own")

    def environment(self) -> Mapping[str, str]:
        """Variables it wants beside the inherited ones."""
        return {}

    def prepare(self) -> None:
        """Write what must be there before the first start."""

    def start(self) -> Self:
        """Start it, on the data it has, and return when it answers."""
        self.prepare()
        self.process = Process(self.name, self.command(), self.folder / f"{self.name}.log", self.environment())
        self.process.start()
        try:
            self.wait_ready()
            self.settle()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_ready(self) -> None:
        """Return once it answers."""
        self.process.wait_logged(self.ready_text, READY_SECONDS)

    def settle(self) -> None:
        """What is left to do once it answers."""

    @property
    def running(self) -> bool:
        return self.process.running

    def stop(self) -> None:
        """An orderly end; its data stay."""
        self.resume()
        self.process.stop(_END_SECONDS)

    def kill(self) -> None:
        """SIGKILL to the whole tree at once, as a power cut would; returns when all of it is dead."""
        if self.process.running:
            ends = [(pid, fd) for pid in self._freeze() if (fd := _pidfd(pid)) is not None]
            for _, end in ends:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(end, signal.SIGKILL)
            self.process.kill()
            for pid, end in ends:
                over, _, _ = select.select([end], [], [], _END_SECONDS)
                os.close(end)
                assert over, f"{self.name}: process {pid} does not die"
        self._frozen = False

    def wait_ended(self) -> None:
        """Return once the process itself is over, or after a while."""
        if (end := _pidfd(self.process.pid)) is not None:
            select.select([end], [], [], _END_SECONDS)
            os.close(end)

    def restart(self) -> Self:
        """An orderly end and a start on the same data and port."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the whole tree (SIGSTOP): connections stay open, nothing answers."""
        self._freeze()
        self._frozen = True

    def resume(self) -> None:
        """Let a frozen tree go on."""
        if self._frozen:
            self._frozen = False
            for pid in reversed(tree(self.process.pid)):
                _send(pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove the folder, when it was made here."""
        self.kill()
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> str:
        """The end of its log, for people."""
        log = self.process.log
        return f"==== {self.name} ({log})\n{self.process.tail()}" if log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _freeze(self) -> list[int]:
        """Stop parents first, again and again until no process has been born meanwhile."""
        stopped: set[int] = set()
        while new := [pid for pid in tree(self.process.pid) if pid not in stopped]:
            for pid in new:
                _send(pid, signal.SIGSTOP)
            stopped.update(new)
            deadline = time.monotonic() + _END_SECONDS
            while not all(state(pid) in "TZ" for pid in new):
                assert time.monotonic() < deadline, f"{self.name} does not freeze"
                time.sleep(_POLL_SECONDS)
        return list(stopped)


class Certificates:
    """A server's own authority, a pair for the server and one for its clients, in `folder`."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.ca: Path = authority.cert
        self.server: KeyPair = authority.server("server", (LOOPBACK, "localhost"))
        self.client: KeyPair = authority.client("client", "wharf")


def state(pid: int) -> str:
    """The kernel's letter: R, S, D, T for stopped; Z once it is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
