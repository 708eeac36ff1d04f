"""kube-apiserver's own code as a child process that answers questions: see tests/cluster/conventions."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wharf.cli.kube.build import BuildError, cache_root, source_tree, to_stderr
from wharf.cli.kube.toolchain import environment, find_go


class Conventions:
    """Questions to the child, many at a time."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def ask(self, kind: str, questions: Iterable[bytes]) -> list[dict[str, Any]]:
        """One answer for each: `error`, or `requestInfo`, `user`, `status`."""
        lines = (json.dumps({"kind": kind, "data": base64.b64encode(data).decode()}) for data in questions)
        done = subprocess.run(
            [self._program], input="\n".join(lines), capture_output=True, encoding="utf-8", timeout=120, check=True
        )
        return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def build_conventions() -> Conventions:
    """The program, compiled when the compiler's cache does not have it."""
    program = cache_root() / "bin" / "conventions"
    program.parent.mkdir(parents=True, exist_ok=True)
    to_stderr("building kube-apiserver's conventions (once; about 60 s on two cores when nothing is cached)")
    words = [str(find_go(to_stderr)), "build", "-trimpath", "-o", str(program), "."]
    folder = source_tree() / "tests/cluster/conventions"
    done = subprocess.run(words, cwd=folder, env=environment(os.environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"building the conventions failed:\n{done.stderr[-3000:]}")
    return Conventions(program)
