"""Builds and asks the linearizability checker, a small Go program around Porcupine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wharf.cli.kube.build import cache_root, to_stderr
from wharf.cli.kube.toolchain import environment, find_go

SOURCE = Path(__file__).resolve().parent.parent / "checker"
_LIMIT_SECONDS = 600.0
_REJECTED = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What the judges said; `faults` by judge: log, linearizable, serializable. No faults: accepted."""

    requests: int
    unanswered: int
    landed: int
    revisions: int
    seconds: float
    faults: dict[str, list[str]]

    def __str__(self) -> str:
        told = [f"{self.requests} requests, {self.unanswered} unanswered of which {self.landed} landed, "]
        told.append(f"{self.revisions} revisions, judged in {self.seconds:.1f} s")
        told += [f"\n{judge}: {fault}" for judge, faults in self.faults.items() for fault in faults]
        return "".join(told)


@cache
def build() -> Path:
    """The checker's path; go compiles only what changed."""
    program = cache_root() / "bin" / "history-checker"
    program.parent.mkdir(parents=True, exist_ok=True)
    words = [str(find_go(to_stderr)), "build", "-trimpath", "-o", str(program), "."]
    subprocess.run(words, cwd=SOURCE, env=environment(os.environ), check=True)
    return program


def check(history: Iterable[str], picture: Path | None = None) -> Report:
    """Judge JSON lines (`record.lines`). `picture`: where Porcupine may draw what it rejects."""
    words = [str(build()), *([f"-picture={picture}"] if picture else [])]
    done = subprocess.run(
        words, input="\n".join(history), capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    if done.returncode not in (0, _REJECTED):
        raise RuntimeError(f"the checker failed: {done.stderr}")
    told = json.loads(done.stdout)
    judges = {name: told[name] for name in ("log", "linearizable", "serializable")}
    return Report(
        told["requests"],
        told["unanswered"],
        told["landed"],
        told["revisions"],
        sum(verdict["seconds"] for verdict in judges.values()),
        {name: verdict["faults"] or ["?"] for name, verdict in judges.items() if not verdict["ok"]},
    )
