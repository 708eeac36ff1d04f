"""kubectl as a function: arguments and manifests in, text or objects out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class KubectlError(AssertionError):
    """kubectl ended with an error; a test that did not expect it fails with kubectl's words."""

    def __init__(self, arguments: tuple[str, ...], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(
            f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout[-1500:]}"
        )
        self.stderr = done.stderr


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One kubectl with one kubeconfig; discovery is cached in a folder of its own."""

    binary: Path
    kubeconfig: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # beside the inherited one

    @property
    def command(self) -> list[str]:
        """The words before the verb."""
        cache = self.kubeconfig.parent / "kubectl-cache"
        return [str(self.binary), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={cache}"]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run it; its stdout, or `KubectlError`."""
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **self.environment},
        )
        if done.returncode != 0:
            raise KubectlError(arguments, done)
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run it with `-o json`."""
        answer: dict[str, Any] = json.loads(self(*arguments, "-o", "json"))
        return answer
