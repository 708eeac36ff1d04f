"""`wharf gateway --workers 2`: two processes answer on one port, and no client can tell."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import state, tree
from integration.gateway_kit import Instance, Upstream, ask, eventually
from wharf.gateway.api.shapes import Schema, Scope
from wharf.gateway.limits.share import batch_tokens

WORKERS = 2
FLAGS = (f"--workers={WORKERS}", "--drain-delay=0s", "--drain-watches=200ms", "--drain-timeout=2s")
CONNECTIONS = 24  # on which both have a share, but for one time in ten million
QPS, BURST = 20.0, 40
LIMIT: dict[str, Any] = {
    "flowControl": {"schemas": [{"name": "shared", "qps": QPS, "burst": BURST, "scope": "Global"}]},
    "policies": [
        {"name": "limited", "rules": [{"resources": ["secrets"]}], "flowControl": ["shared"]},
        {"name": "free", "rules": [{"verbs": ["*"]}]},
    ],
}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream(tmp_path_factory.mktemp("upstream")) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with Instance(tmp_path_factory.mktemp("workers"), upstream, FLAGS, **LIMIT) as made:
        yield made
        processes = tree(made.process.pid)
        assert len(processes) == 1 + WORKERS
        assert made.process.stop(60) == 0
        assert "Traceback" not in made.said()
        assert [pid for pid in processes if state(pid) != "Z"] == []


def workers(gateway: Instance) -> list[int]:
    return tree(gateway.process.pid)[1:]


@contextmanager
def connections(gateway: Instance, count: int = CONNECTIONS) -> Iterator[list[HTTPSConnection]]:
    with ExitStack() as stack:
        made = [stack.enter_context(closing(gateway.client())) for _ in range(count)]
        for client in made:
            assert ask(client).status == 200
        yield made


def counted(gateway: Instance, name: str) -> dict[str, float]:
    """What each worker has counted under this name."""
    found: dict[str, float] = {}
    for line in gateway.health("/metrics")[1].splitlines():
        if line.startswith(name + "{"):
            worker = re.search(r'worker="(\d+)"', line)
            assert worker is not None, line
            found[worker[1]] = found.get(worker[1], 0.0) + float(line.rpartition(" ")[2])
    return found


def test_it_is_ready_when_both_are(gateway: Instance) -> None:
    assert gateway.metric("wharf_gateway_workers") == WORKERS
    assert gateway.health("/readyz")[0] == 200


def test_both_serve_and_what_they_count_adds_up(gateway: Instance) -> None:
    name = "wharf_gateway_client_connections_total"
    eventually(lambda: len(counted(gateway, name)) == WORKERS, "a worker tells nothing")
    before = gateway.metric(name)
    with connections(gateway):
        eventually(lambda: gateway.metric(name) >= before + CONNECTIONS, "reports do not come")
        assert gateway.metric(name) == before + CONNECTIONS
        assert min(counted(gateway, name).values()) > 0


def test_a_global_limit_is_one_for_both(gateway: Instance) -> None:
    margin = WORKERS * batch_tokens(Schema("shared", qps=QPS, burst=BURST, scope=Scope.GLOBAL), WORKERS)
    with connections(gateway, 12) as clients:
        began, admitted = time.monotonic(), 0
        for _ in range(15):
            for client in clients:
                reply = ask(client, "/api/v1/namespaces/a/secrets/b")
                assert reply.status in (200, 429)
                admitted += reply.status == 200
                assert reply.status == 200 or int(reply.headers["retry-after"]) >= 1
        seconds = time.monotonic() - began
    assert BURST / 2 < admitted <= BURST + QPS * seconds + margin


def test_a_killed_worker_is_replaced_and_the_other_ones_clients_see_nothing(gateway: Instance) -> None:
    deaths = gateway.metric("wharf_gateway_worker_deaths_total")
    with connections(gateway) as clients:
        victim, survivor = workers(gateway)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: state(victim) == "Z", "it does not die")
        living = [client for client in clients if lives(client)]
        assert 0 < len(living) < len(clients)
        eventually(lambda: gateway.metric("wharf_gateway_worker_deaths_total") == deaths + 1, "nobody saw it")
        eventually(lambda: gateway.health("/readyz")[0] == 200, "it is not replaced")
        assert all(lives(client) for client in living)
        assert survivor in workers(gateway)
    assert len(workers(gateway)) == WORKERS
    with connections(gateway):
        pass


def lives(client: HTTPSConnection) -> bool:
    try:
        return ask(client).status == 200
    except (OSError, ValueError):
        return False


def test_sigterm_ends_the_watches_of_both_cleanly(upstream: Upstream, tmp_path: Path) -> None:
    with Instance(tmp_path, upstream, FLAGS) as gateway, ExitStack() as stack:
        answers = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(closing(gateway.client()))
            client.request("GET", "/api/v1/pods?watch=true")
            answers.append(client.getresponse())
        gateway.process.send_signal(signal.SIGTERM)
        assert [answer.read() for answer in answers] == [b""] * CONNECTIONS
        gateway.wait_ended()
        assert gateway.process.returncode == 0, gateway.logs()


def test_workers_go_with_a_parent_that_is_killed(upstream: Upstream, tmp_path: Path) -> None:
    with Instance(tmp_path, upstream, FLAGS) as gateway:
        children = workers(gateway)
        assert len(children) == WORKERS
        gateway.process.send_signal(signal.SIGKILL)
        gateway.wait_ended()
        eventually(lambda: all(state(pid) == "Z" for pid in children), "workers outlive their parent")
