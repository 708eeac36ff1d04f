"""The wire's servers as processes of their own, for strangers' tools to talk to."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wire.pki import Authority


@dataclass(frozen=True, slots=True)
class Served:
    """Where the service listens."""

    port: int
    ca_file: str | None  # None: no TLS


@contextlib.contextmanager
def serve_program(program: str, folder: Path, tls: bool) -> Iterator[Served]:
    """`wire.interop_server` (gRPC) or `wire.web_echo` on a free port, ended afterwards."""
    arguments: list[str] = []
    ca_file = None
    if tls:
        authority = Authority(folder)
        files = authority.issue("server")
        arguments, ca_file = [files.cert, files.key], authority.ca_file
    tests = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    try:
        assert process.stdout is not None
        yield Served(int(process.stdout.readline()), ca_file)
        assert process.poll() is None, "the server died"
    finally:
        process.kill()
        process.communicate()
