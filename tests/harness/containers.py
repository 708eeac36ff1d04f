"""A container engine of our own: in its own network and mount namespace, gone without a trace.

Nothing is pulled: the base image is made by debootstrap once and kept in the cache, and so is what the node's container
runtime imports.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.build import cache_root
from wharf.cli.kube.process import Process

ROOT = Path(__file__).resolve().parents[2]
BASE = "wharf-test-base:bookworm"
PACKAGES = "python3,python3-venv,libnghttp2-14,liblmdb0,postgresql-15,redis-server"
NODE_IMAGES = ("wharf-brain:0.1.0", "wharf-gateway:0.1.0", "wharf-backing:0.1.0")
_NODE_TARGETS = ("brain", "gateway", "backing")
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

    def build_images(self, *names: str) -> None:
        """Images of docker-compose.yml and the chart (all, or those named), as a user would build them."""
        self.run(ROOT / "scripts" / "images.sh", *names, cwd=ROOT, timeout=900)


def missing_tools() -> list[str]:
    """What this machine lacks to run the engine; empty when it can."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    return lacking + [tool for tool in TOOLS if shutil.which(tool) is None]


@contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine with the base image in it; ended with everything in it."""
    archive = base_archive()
    # Short, because a unix socket's path must be.
    with tempfile.TemporaryDirectory(prefix="wharf-engine-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        flags = f"--host=unix://{root}/s --data-root={root}/data --exec-root={root}/exec --pidfile={root}/pid"
        script = f"ip link set lo up && exec dockerd {flags}"
        process = Process("dockerd", ["unshare", "--net", "--mount", "sh", "-c", script], root / "dockerd.log")
        process.start()
        try:
            process.wait_logged(ENGINE_READY, 60)
            engine = Engine(root / "s", process)
            engine.run("docker", "import", archive, BASE)
            yield engine
        finally:
            process.stop()


def checked(words: list[str], environment: dict[str, str], cwd: Path | None, timeout: float) -> str:
    """Standard output of a command that must work; its own words when it does not."""
    done = subprocess.run(words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def base_archive() -> Path:
    """A Debian with what the images need, as a tar file; made once (minutes), then kept."""
    name = hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]
    archive = cache_root() / "images" / f"bookworm-{name}.tar"
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


def node_images() -> Path:
    """What pods run, as an archive for a node's containerd; kept until its sources change."""
    folder = cache_root() / "images"
    archive = folder / f"node-{_image_key()}.tar"
    if not archive.exists():
        with running_engine() as engine, tempfile.TemporaryDirectory(dir=folder) as scratch:
            engine.build_images(*_NODE_TARGETS)
            fresh = Path(scratch) / "images.tar"
            engine.run("docker", "save", "--output", fresh, *NODE_IMAGES)
            for old in folder.glob("node-*.tar"):
                old.unlink()
            fresh.replace(archive)
    return archive


def _image_key() -> str:
    """What the images are made of, in one word."""
    script = ROOT / "scripts" / "images.sh"
    checked([str(script), "--prepare", *_NODE_TARGETS], dict(os.environ), ROOT, 600)
    digest = hashlib.sha256(PACKAGES.encode())
    context = ROOT / "build" / "image"
    for file in (script, *sorted((ROOT / "deploy").rglob("*")), *sorted(context.rglob("*.stamp"))):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
