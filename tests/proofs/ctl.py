"""etcdctl as people use it: both releases in use, against one server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.servers import DEBIAN_ETCDCTL
from wharf.cli.kube.binaries import locate

RELEASES = ("3.4", "3.6")
_SECONDS = 60.0


def program(release: str) -> Path:
    return DEBIAN_ETCDCTL if release == "3.4" else locate("etcdctl", search_path=False)


@dataclass(frozen=True, slots=True)
class Ctl:
    """One etcdctl for one endpoint."""

    release: str
    url: str
    flags: tuple[str, ...] = ()

    def words(self, *arguments: str) -> list[str]:
        return [str(program(self.release)), f"--endpoints={self.url}", *self.flags, *arguments]

    def run(self, *arguments: str, stdin: str = "", seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, "ETCDCTL_API": "3"},
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What it prints; it must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-w", "json"))

    def refused(self, *arguments: str) -> str:
        """What it complains about; it must fail."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"etcdctl {' '.join(arguments)} succeeded:\n{done.stdout}"
        return done.stderr + done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """One that goes on; the caller ends it."""
        return subprocess.Popen(
            self.words(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ETCDCTL_API": "3"},
        )


def lines_until(process: subprocess.Popen[str], wanted: Sequence[str]) -> list[str]:
    """Lines of output until each wanted one has come, in order; the process's end before that fails."""
    assert process.stdout is not None
    seen: list[str] = []
    for expected in wanted:
        for line in process.stdout:
            seen.append(line.rstrip("\n"))
            if expected in seen[-1]:
                break
        else:
            raise AssertionError(f"ended before {expected!r}; printed {seen}")
    return seen
