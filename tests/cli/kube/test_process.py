"""Child processes: readiness is an event, death is told with its last words, and the whole group ends."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest
from wharf.cli.kube.process import Process, ProcessFailedError


def shell(tmp_path: Path, script: str) -> Process:
    return Process("shell", ["sh", "-c", script], tmp_path / "logs" / "shell.log")


def test_ready_when_it_says_so(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo warming up; echo ready; exec sleep 60").start()
    process.wait_logged("ready", 10)
    assert process.running
    assert process.stop() == -signal.SIGTERM
    assert not process.running


def test_death_before_ready_is_told_with_the_log(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo no disk >&2; exit 7").start()
    with pytest.raises(ProcessFailedError, match=r"code 7(.|\n)*no disk"):
        process.wait_logged("ready", 10)


def test_never_ready_is_told_with_the_log(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo still thinking; exec sleep 60").start()
    process.wait_logged("thinking", 10)
    with pytest.raises(ProcessFailedError, match=r"not ready in 0 s(.|\n)*still thinking"):
        process.wait_logged("ready", 0)
    process.kill()
    assert process.returncode == -signal.SIGKILL


def test_readiness_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    flag = tmp_path / "second"
    process = shell(tmp_path, f"test -e {flag} && exit 5; echo ready; exec sleep 60").start()
    process.wait_logged("ready", 10)
    process.stop()
    flag.touch()
    process.start()
    with pytest.raises(ProcessFailedError, match="code 5"):
        process.wait_logged("ready", 10)
    assert process.log.read_text().count("ready") == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_children_end_too(tmp_path: Path, how: str) -> None:
    process = shell(tmp_path, "trap '' TERM; (trap '' TERM; sleep 60) & echo child $!; wait").start()
    process.wait_logged("child", 10)
    child = os.pidfd_open(int(process.output().split()[-1]))
    if how == "stop":
        process.stop(0.1)
    else:
        process.kill()
    assert not process.running
    over, _, _ = select.select([child], [], [], 10)
    os.close(child)
    assert over


def test_stopping_twice_or_never_started_is_harmless(tmp_path: Path) -> None:
    process = shell(tmp_path, "exit 0")
    assert process.stop() is None
    with pytest.raises(ProcessFailedError, match="never started"):
        process.pid  # noqa: B018 - the property raises
    process.start()
    process.stop()
    assert process.stop() == process.returncode
