"""h2spec, a stranger's conformance suite for HTTP/2, against the gateway's TLS listener with a server behind it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from gateway.serve.kit import answer
from integration.gateway_kit import Instance, Upstream
from integration.test_h2spec import CASES
from wharf.cli.kube.binaries import locate

BODY = b"x" * 100  # as long as the cases about windows want one
FLAGS = ("--drain-delay=0s", "--drain-watches=0s", "--drain-timeout=1s")


def test_h2spec_passes_whole(tmp_path: Path) -> None:
    tool = locate("h2spec")
    with (
        Upstream(tmp_path / "upstream") as upstream,
        Instance(tmp_path / "gateway", upstream, FLAGS) as gateway,
    ):
        upstream.server.behave = lambda exchange: answer(exchange, BODY)
        command = [str(tool), "--strict", "-t", "-k", "-h", "localhost", "-p", str(gateway.port), "-o", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert gateway.get().status == 200
        assert "Traceback" not in gateway.said()
        served = len(upstream.server.requests)
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary is not None, done.stdout + done.stderr
    assert [int(number) for number in summary.groups()] == [CASES, CASES, 0, 0], done.stdout
    assert served > CASES / 4, "it was the server behind that answered"
