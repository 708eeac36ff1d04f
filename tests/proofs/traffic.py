"""Builds and runs etcd's own robustness traffic and its judge (tests/proofs/robustness) against one running server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wharf.cli.kube.build import cache_root, to_stderr
from wharf.cli.kube.toolchain import environment, find_go

SOURCE = Path(__file__).resolve().parent / "robustness"
_LIMIT_SECONDS = 400.0  # the judge's own bound is 240 s


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was made of a server. `kinds`: answered requests of each kind; `fault`: empty when accepted."""

    requests: int
    failed: int
    kinds: dict[str, int]
    revision: int
    fault: str


@cache
def build() -> Path:
    """The program's path; go compiles only what changed."""
    program = cache_root() / "bin" / "etcd-robustness"
    program.parent.mkdir(parents=True, exist_ok=True)
    to_stderr("compiling etcd's robustness traffic (about 60 s on two cores when nothing is cached)")
    words = [str(find_go(to_stderr)), "build", "-trimpath", "-o", str(program), "."]
    subprocess.run(words, cwd=SOURCE, env=environment(os.environ), check=True)
    return program


def judge(url: str, seconds: float, folder: Path, meanwhile: Callable[[], None] = lambda: None) -> Verdict:
    """Make requests of an empty server for so long, do `meanwhile` beside them, and judge the answers.

    A rejected history is kept in `folder`: the requests as text, and Porcupine's picture.
    """
    words = [str(build()), f"-endpoint={url}", f"-duration={seconds}s", f"-report={folder}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            line = child.stderr.readline()
            assert line == "traffic has started\n", line + child.stderr.read()
            meanwhile()
            told, complaints = child.communicate(timeout=_LIMIT_SECONDS)
        finally:
            child.kill()
    assert child.returncode == 0, complaints
    return Verdict(**json.loads(told))
