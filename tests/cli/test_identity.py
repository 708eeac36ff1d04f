"""A pid means a process only together with its start time and boot."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from wharf.cli.embedded.identity import Identity, identify, is_alive, send, wait_gone


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def known(process: subprocess.Popen[bytes]) -> Identity:
    found = identify(process.pid)
    assert found is not None
    return found


def test_a_process_is_itself(child: subprocess.Popen[bytes]) -> None:
    assert is_alive(known(child))
    assert known(child) != identify(os.getpid())


def test_a_signal_reaches_the_very_process(child: subprocess.Popen[bytes]) -> None:
    who = known(child)
    assert send(who, signal.SIGTERM)
    assert wait_gone(who, 20)
    assert child.wait() == -signal.SIGTERM
    assert not is_alive(who)
    assert not send(who, signal.SIGTERM)
    assert wait_gone(who, 0)


@pytest.mark.parametrize("other", [{"started": 1}, {"boot": "another boot"}])
def test_a_reused_pid_is_left_alone(child: subprocess.Popen[bytes], other: dict[str, object]) -> None:
    who = replace(known(child), **other)  # type: ignore[arg-type]
    assert not is_alive(who)
    assert not send(who, signal.SIGKILL)
    assert wait_gone(who, 0)
    assert child.poll() is None


def test_waiting_for_one_that_stays_ends(child: subprocess.Popen[bytes]) -> None:
    assert not wait_gone(known(child), 0.01)


def test_a_corpse_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    who = known(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still there for its parent
    assert not is_alive(who)
    assert identify(child.pid) is None
