"""h2spec, a stranger's conformance suite for HTTP/2, against the wire: every case, plain and over TLS."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from integration.wire_server import serve_program
from wharf.cli.kube.binaries import locate

CASES = 146


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("program", ["wire.interop_server", "wire.web_echo"])
def test_h2spec_passes_whole(program: str, tls: bool, tmp_path: Path) -> None:
    tool = locate("h2spec")
    with serve_program(program, tmp_path, tls) as served:
        command = [str(tool), "--strict", "-h", "127.0.0.1", "-p", str(served.port), "-o", "2"]
        done = subprocess.run(
            [*command, *(["-t", "-k"] if tls else [])], capture_output=True, text=True, timeout=300, check=False
        )
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary is not None, done.stdout + done.stderr
    assert [int(number) for number in summary.groups()] == [CASES, CASES, 0, 0], done.stdout
