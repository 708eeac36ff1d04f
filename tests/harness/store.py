"""The store under test: brain, or a real etcd to compare with, behind one small class.

`WHARF_TEST_STORE=etcd|brain` chooses (brain when unset). Invariant: both take the same flags and log the same readiness
line, so a test never knows which one it has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wharf.cli.kube.argv import EtcdAccess
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.controlplane import free_port
from wharf.cli.kube.pki import Authority
from wharf.cli.kube.process import Process

READY_LINE = "ready to serve client requests"
_READY_SECONDS = 60.0  # a busy machine; never a measure of speed


def chosen_store() -> str:
    """Which store the environment asks for."""
    name = os.environ.get("WHARF_TEST_STORE", "brain")
    if name not in {"brain", "etcd"}:
        raise ValueError(f"WHARF_TEST_STORE must be brain or etcd, not {name!r}")
    return name


def server_command(name: str) -> list[str]:
    """The words before the flags."""
    if name == "etcd":
        return [str(locate("etcd", search_path=False))]
    return [str(Path(sys.prefix) / "bin" / "wharf"), "brain"]


@dataclass
class Store:
    """One single-member store on loopback, with its data directory and log under `folder`."""

    folder: Path
    name: str = field(default_factory=chosen_store)
    tls: bool = False
    flags: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        scheme = "https" if self.tls else "http"
        self.port, peer, self.metrics_port = free_port(), free_port(), free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.access = EtcdAccess((self.url,))
        words = [*server_command(self.name), f"--data-dir={self.folder / 'data'}", f"--listen-client-urls={self.url}"]
        words.append(f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}")
        if self.name == "etcd":
            peer_url = f"http://127.0.0.1:{peer}"
            words += [f"--advertise-client-urls={self.url}", f"--listen-peer-urls={peer_url}"]
            words += [f"--initial-advertise-peer-urls={peer_url}", f"--initial-cluster=default={peer_url}"]
        if self.tls:
            words += self._tls_flags()
        self.process = Process(self.name, [*words, *self.flags], self.folder / f"{self.name}.log")

    def _tls_flags(self) -> list[str]:
        authority = Authority(self.folder / "pki")
        server = authority.server("server", ("127.0.0.1", "localhost"))
        self.access = EtcdAccess((self.url,), authority.cert, authority.client("client", "root"))
        return [
            f"--cert-file={server.cert}",
            f"--key-file={server.key}",
            f"--trusted-ca-file={authority.cert}",
            "--client-cert-auth=true",
        ]

    def start(self) -> Store:
        """Start it, on what is in its data directory, and return when it serves."""
        self.process.start()
        try:
            self.process.wait_logged(READY_LINE, _READY_SECONDS)
        except BaseException:
            self.process.kill()
            raise
        return self

    def stop(self) -> None:
        """An orderly end."""
        self.process.stop()

    def kill(self) -> None:
        """The end a power cut would give a process."""
        self.process.kill()

    def logs(self) -> str:
        """The end of its log, for people."""
        return (
            f"==== {self.process.name} ({self.process.log})\n{self.process.tail()}" if self.process.log.exists() else ""
        )
