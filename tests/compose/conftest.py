"""The container engine of the compose suite, one for all its tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose.engine import BASE, ENGINE_READY, TOOLS, Engine, base_archive
from wharf.cli.kube.process import Process


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"this machine cannot run containers: {', '.join(missing) or 'not root'}")
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
