"""A container engine of our own for the compose suite: in its own network and mount namespace, gone without a trace.

Nothing is pulled: the base image is made by debootstrap once and kept in the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.build import cache_root
from wharf.cli.kube.process import Process

BASE = "wharf-test-base:bookworm"
PACKAGES = "python3,python3-venv,libnghttp2-14,liblmdb0"
TOOLS = ("dockerd", "docker", "docker-compose", "debootstrap", "unshare", "nsenter")
ENGINE_READY = "API listen on"


@dataclass(frozen=True, slots=True)
class Engine:
    """A running dockerd; `run` speaks to it, `inside` runs a program where its published ports are."""

    socket: Path
    process: Process

    def run(self, *words: str | Path, cwd: Path | None = None, timeout: float = 600) -> str:
        environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",
            "WHARF_BASE_IMAGE": BASE,
            "COMPOSE_PROJECT_NAME": "wharftest",
        }
        return checked([str(word) for word in words], environment, cwd, timeout)

    def inside(self, *words: str | Path, timeout: float = 60) -> str:
        prefix = ["nsenter", "--net", "--target", str(self.process.pid)]
        return checked([*prefix, *(str(word) for word in words)], dict(os.environ), None, timeout)


def checked(words: list[str], environment: dict[str, str], cwd: Path | None, timeout: float) -> str:
    """Standard output of a command that must work; its own words when it does not."""
    done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def base_archive() -> Path:
    """A Debian with what the images need, as a tar file; made once (a minute), then kept."""
    archive = cache_root() / "images" / "bookworm-python3.tar"
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        root = Path(scratch) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
        checked(command, dict(os.environ), None, 600)
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        fresh = Path(scratch) / "root.tar"
        checked(["tar", "-C", str(root), "-cf", str(fresh), "."], dict(os.environ), None, 600)
        fresh.replace(archive)
    return archive
