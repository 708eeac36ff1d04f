"""A store under load: started on a fresh directory on loopback, and what the kernel says it has used.

Owns process and directory. Invariant: CPU and memory are those of the server's whole process tree, taken from /proc, so
that neither threads nor worker processes hide, also those that are over; the load generator is never part of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.binaries import locate, tell_version, wanted_version
from wharf.cli.kube.controlplane import free_port
from wharf.cli.kube.process import Process
from wharf.cli.kube.recipes import recipe

PEERS = ("etcd", "brain")
_READY = "ready to serve client requests"
_READY_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    endpoint: str  # host:port
    process: Process
    folder: Path

    def cpu_seconds(self) -> float:
        """User and system time since the start."""
        return cpu_seconds(self.process.pid)

    def rss_bytes(self) -> int:
        return sum(_stat(pid)[21] for pid in tree(self.process.pid)) * _PAGE


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree: each one's own and of the children that it has outlived."""
    return sum(sum(_stat(pid)[11:15]) for pid in tree(root)) / _TICKS


def tree(root: int) -> list[int]:
    """`root` and all its descendants that are alive."""
    try:
        below = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:  # over meanwhile: what it used is its parent's to tell
        return []
    return [root, *(pid for child in below for pid in tree(int(child)))]


def _stat(pid: int) -> list[int]:
    """Numeric fields of /proc/PID/stat from ppid (index 1) on; index n is field n + 3 of proc(5)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # over meanwhile
        return [0] * 50
    return [0, *map(int, after_name[1:])]


def command(name: str, folder: Path, client: str, flags: tuple[str, ...] = ()) -> list[str]:
    """The words that start a server; both get what its operator would give it, and nothing to make it faster."""
    if name == "brain":
        words = [
            str(Path(sys.prefix) / "bin" / "wharf"),
            "brain",
            f"--listen-metrics-urls=http://127.0.0.1:{free_port()}",
        ]
    elif name == "kine":
        address = client.removeprefix("http://")
        kine = locate("kine", search_path=False, report=lambda _: None)
        return [str(kine), f"--listen-address={address}", "--metrics-bind-address=0", *flags]
    else:
        peer = f"http://127.0.0.1:{free_port()}"
        words = [
            str(locate("etcd", search_path=False, report=lambda _: None)),
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
        ]
        words += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}", "--log-level=warn"]
        words += ["--quota-backend-bytes=8589934592"]
    return [*words, f"--data-dir={folder / 'data'}", f"--listen-client-urls={client}", *flags]


def version(name: str) -> str:
    if name == "brain":
        from importlib.metadata import version as installed  # noqa: PLC0415 - only wharf's own environment has it

        return installed("wharf-brain")
    tool = recipe(name)
    path = locate(name, search_path=False, report=lambda _: None)
    return tell_version(tool, path) or wanted_version(tool, None) or "unknown"


def launch(name: str, folder: Path, flags: tuple[str, ...] = ()) -> Server:
    """Start on what `folder` holds; returns when it serves."""
    port = free_port()
    client = f"http://127.0.0.1:{port}"
    process = Process(name, command(name, folder, client, flags), folder / f"{name}.log").start()
    try:
        if name == "brain":
            process.wait_logged(_READY, _READY_SECONDS)
        else:  # quiet logs: ask instead
            process.wait_ready(lambda: _accepts(port), _READY_SECONDS)
    except BaseException:
        process.kill()
        raise
    return Server(name, f"127.0.0.1:{port}", process, folder)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(name: str, flags: tuple[str, ...] = ()) -> Iterator[Server]:
    """A server on a fresh directory; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    try:
        server = launch(name, folder, flags)
        try:
            yield server
        finally:
            server.process.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
