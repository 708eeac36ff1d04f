"""Builds and runs the Go load generator (the real etcd client)."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wharf.cli.kube.build import cache_root
from wharf.cli.kube.toolchain import environment, find_go

from benchmarks.servers import Server

SOURCE = Path(__file__).parent / "loadgen"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: what the generator saw and what the server used for it."""

    result: dict[str, Any]  # the generator's JSON
    cpu_us_per_op: float
    rss_bytes: int
    command: tuple[str, ...]


def build() -> Path:
    """The generator's path; go compiles only what changed."""
    program = cache_root() / "bin" / "loadgen"
    program.parent.mkdir(parents=True, exist_ok=True)
    go = find_go(print)
    words = [str(go), "build", "-trimpath", "-o", str(program), "."]
    subprocess.run(words, cwd=SOURCE, env=environment(os.environ), check=True)
    return program


def run(program: Path, server: Server, op: str, **flags: object) -> Measured:
    """Drive `server`; CPU per operation counts the warm-up's operations out by giving it none."""
    words = (str(program), f"-endpoint={server.endpoint}", f"-op={op}", *(f"-{_flag(k)}={v}" for k, v in flags.items()))
    before = server.cpu_seconds()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    used = server.cpu_seconds() - before
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    # The server worked for the warm-up too; the generator counts all operations for exactly this division.
    return Measured(result, used / max(result["all_ops"], 1) * 1e6, server.rss_bytes(), words)


def _flag(name: str) -> str:
    return name.replace("_", "-")
