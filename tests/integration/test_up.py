"""`wharf up` as people use it: a real control plane on brain, from the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wharf.cli.embedded import identity
from wharf.cli.embedded.health import ask
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Health
from wharf.cli.embedded.ports import free_port
from wharf.cli.embedded.state import load
from wharf.cli.kube.binaries import locate

WHARF = (sys.executable, "-m", "wharf.cli")
START_SECONDS = 180.0
PARTS = ["brain", "kube-apiserver", "gateway", "kube-controller-manager", "kube-scheduler"]
PORT_FLAGS = (
    *("port", "brain-port", "brain-health-port", "controller-manager-port", "scheduler-port"),
    *("gateway-port", "gateway-health-port"),
)
CONTEXTS = ("wharf-admin@wharf", "wharf-admin@wharf-direct")  # through the gateway, and past it


class System:
    """One directory with free ports, driven through the command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flags = ["--dir", str(root)]
        self.ports = [word for name in PORT_FLAGS for word in (f"--{name}", str(free_port()))]

    def wharf(self, *words: str, timeout: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*WHARF, *words, *self.flags], capture_output=True, text=True, timeout=timeout, check=False
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        done = self.wharf("up", "--detach", *self.ports)
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    def status(self) -> tuple[int, dict[str, Any]]:
        done = self.wharf("status", "--output", "json")
        return done.returncode, json.loads(done.stdout)

    def kubectl(self, *words: str) -> str:
        command = [str(locate("kubectl")), f"--kubeconfig={self.root}/kubeconfig", "--request-timeout=20s", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def recorded(self) -> list[identity.Identity]:
        system = load(Layout(self.root).state)
        return [] if system is None else [system.supervisor, *(part.who for part in system.parts)]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "wharf")
    yield made
    recorded = made.recorded()
    made.wharf("down")
    assert not [who for who in recorded if identity.is_alive(who)]


def test_a_detached_system_lives_through_down_and_up(system: System) -> None:
    told = system.up()
    assert f"export KUBECONFIG={system.root}/kubeconfig" in told.stdout
    assert [word for word in PARTS if word not in told.stdout] == []
    code, report = system.status()
    assert (code, report["ok"]) == (0, True)
    assert [(part["name"], part["health"]) for part in report["parts"]] == [(name, "ok") for name in PARTS]
    assert "default" in system.kubectl("get", "namespaces", "-o", "name")
    for context in CONTEXTS:
        words = ("auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
        said = system.kubectl(f"--context={context}", *words)
        assert said == 'wharf-admin ["system:masters","system:authenticated"]', context
    system.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    uid = system.kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}")
    assert "wharf is up already" in system.up().stdout

    first = system.recorded()
    assert system.wharf("down").returncode == 0
    assert not [who for who in first if identity.is_alive(who)]
    assert system.wharf("down").returncode == 0
    assert system.wharf("status").returncode == 1

    system.up()
    assert system.kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid} {.data.a}") == f"{uid} b"


def test_a_killed_brain_shows_and_is_not_restarted(system: System) -> None:
    system.up()
    _, report = system.status()
    (brain,) = (part for part in report["parts"] if part["name"] == "brain")
    who = identity.identify(brain["pid"])
    assert who is not None
    assert identity.send(who, signal.SIGKILL)
    assert identity.wait_gone(who, 60)
    wait_for(lambda: system.status()[1]["parts"][0]["health"] == "died: killed by SIGKILL")
    code, report = system.status()
    assert (code, report["ok"], report["parts"][0]["pid"]) == (1, False, None)
    assert "brain ended: killed by SIGKILL; it is not restarted" in (system.root / "logs/supervisor.log").read_text()
    assert system.wharf("down").returncode == 0
    system.up()
    assert system.status()[0] == 0


def test_ctrl_c_stops_everything_in_order(system: System) -> None:
    command = [*WHARF, "up", *system.flags, *system.ports]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as shell:
        assert shell.stderr is not None
        lines = []
        for line in shell.stderr:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        running = system.recorded()
        assert len(running) == 1 + len(PARTS), "".join(lines)
        os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
        rest = shell.stderr.read()
        assert shell.wait(120) == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert not [who for who in running if identity.is_alive(who)]
    stopped = [line.split()[1] for line in rest.splitlines() if " stopped in " in line]
    assert sorted(stopped[:3]) == PARTS[2:]
    assert stopped[3:] == ["kube-apiserver", "brain"]
    assert system.wharf("status").returncode == 1


def test_nothing_of_it_is_open_to_others_and_its_ports_are_taken(system: System) -> None:
    system.up()
    code, report = system.status()
    assert code == 0
    assert oct(system.root.stat().st_mode & 0o777) == "0o700"
    endpoints = {part["name"]: part["endpoint"].removeprefix("https://") for part in report["parts"]}
    assert all(endpoint.startswith("127.0.0.1:") for endpoint in endpoints.values())
    # brain answers the apiserver and nobody without a certificate of brain's own authority, administrators included.
    pki = system.root / "pki"
    url, ca = f"https://{endpoints['brain']}/version", pki / "brain/ca.crt"
    assert ask(Health(url, ca, pki / "brain/kube-apiserver.crt", pki / "brain/kube-apiserver.key")) is None
    assert ask(Health(url, ca)) is not None
    assert ask(Health(url, ca, pki / "kube/admin.crt", pki / "kube/admin.key")) is not None

    other = System(system.root.parent / "other")
    done = other.wharf("up", "--detach", *system.ports)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == len(PORT_FLAGS)
    assert lines[0].startswith("error: port ")
    assert "is taken by kube-apiserver (pid " in lines[0]
    assert "--port (0: any free one)" in lines[0]
    assert other.recorded() == []


def wait_for(true: Callable[[], bool], timeout: float = 90.0) -> None:
    """Each look is a process of its own, so looking again is pause enough."""
    over = threading.Event()
    timer = threading.Timer(timeout, over.set)
    timer.start()
    try:
        while not true():
            assert not over.is_set()
    finally:
        timer.cancel()
