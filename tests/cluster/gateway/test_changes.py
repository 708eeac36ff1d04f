"""What changes under clients must not reach them: servers that restart, a new configuration, a gateway that goes."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.gateway.conftest import ADDRESSES, ONE, TWO, House, document
from harness.api import Api, Json, config_map
from harness.churn import CONFIG_MAPS, LEASES, churn
from harness.gateway import Front, Gateway
from harness.informers import informers

KINDS = (CONFIG_MAPS, LEASES)
COUNTS = {"configmaps": 30, "leases": 50}  # no pods: controllers delete those of nodes that do not exist
OTHERS = "kube-root-ca.crt"  # a ConfigMap that controllers put into every namespace; it has no number
BETWEEN = 200  # acknowledged writes between two restarts
WATCHES = 60
DRAIN_SECONDS = 4.0
_PATIENCE = 60.0
_LOOK_AGAIN = 0.02


def until(condition: Callable[[], bool], what: str) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(_LOOK_AGAIN)


@contextmanager
def reading(front: Front, path: str) -> Iterator[list[str]]:
    """A client that asks for the same again and again; what was not answered with 200 is in the list."""
    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        with front.api() as api:
            while not stop.is_set():
                try:
                    answer = api.ask("GET", path)
                except (OSError, http.client.HTTPException) as error:
                    wrong.append(repr(error))
                else:
                    if not answer.ok:
                        wrong.append(f"{answer.status} {answer.body}")

    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(read) for _ in range(2)]
        try:
            yield wrong
        finally:
            stop.set()
            for one in work:
                one.result()


def healthy(gateway: Gateway, cluster: str) -> int:
    """How many servers of a cluster get requests."""
    return int(gateway.metric("wharf_gateway_server_ready", cluster=cluster))


def test_each_apiserver_restarts_under_load_and_no_request_fails(house: House, space: str) -> None:
    plane, front = house.one.plane, house.front
    with (
        churn(front, space, COUNTS) as load,
        informers(front.kubeconfig, space) as watchers,
        reading(front, f"/api/v1/namespaces/{space}/configmaps") as wrong,
    ):
        load.wait_for(BETWEEN)
        for index, server in enumerate(plane.apiservers):
            server.stop(_PATIENCE)
            load.wait_for(BETWEEN)
            server.start()
            plane.wait_apiserver(index)
            until(lambda: healthy(house.gateway, ONE) == 2, "the server does not come back")
            load.wait_for(BETWEEN)
        load.finish()
        assert load.failures == {}
        assert wrong == []
        stored = {kind.name: load.check(kind) for kind in KINDS}
        seen = watchers.wait_for(
            lambda told: all(stored[kind].items() <= told[kind].versions.items() for kind in stored)
        )
        for kind in KINDS:
            told = seen[kind.name]
            assert {name: told.versions[name] for name in stored[kind.name]} == stored[kind.name]
            assert [problem for problem in told.problems if OTHERS not in problem] == []
            assert seen[kind.name].lists == 1, "an informer has listed again"


def test_an_apiserver_is_killed_and_no_read_fails(house: House, space: str) -> None:
    plane = house.one.plane
    with reading(house.front, f"/api/v1/namespaces/{space}/configmaps") as wrong:
        plane.apiservers[1].kill()
        until(lambda: healthy(house.gateway, ONE) == 1, "nobody notices")
        plane.apiservers[1].start()
        plane.wait_apiserver(1)
        until(lambda: healthy(house.gateway, ONE) == 2, "the server does not come back")
    assert wrong == []


def test_a_new_configuration_drops_no_watch(house: House, space: str) -> None:
    """Policy, limits, timeouts, serving certificate and even the other cluster change; the watch goes on."""
    front, collection = house.front, f"/api/v1/namespaces/{space}/configmaps"
    plane = house.one.plane
    usual = document(ONE, plane, logging={"access": True})
    deny = {"name": "deny", "rules": [{"resources": ["configmaps"], "verbs": ["list"]}], "deny": {"status": 429}}
    changed = document(
        ONE,
        plane,
        logging={"access": True},
        policies=[deny, {"name": "rest"}],
        timeouts={"head": 50},
        hostnames=["a.b"],
    )
    with front.api() as api, ThreadPoolExecutor(1) as pool:
        version = api.get(collection)["metadata"]["resourceVersion"]
        events: list[Json] = []
        watch = pool.submit(_collect, front.api(), collection, version, events, "last")
        api.post(collection, config_map("first"))
        until(lambda: len(events) == 1, "the watch says nothing")
        other = house.gateway.documents / f"{TWO}.json"
        kept = other.read_text()
        try:
            house.gateway.put(changed)
            other.unlink()
            until(lambda: api.ask("GET", collection).status == http.client.TOO_MANY_REQUESTS, "no new policy")
            api.post(collection, config_map("second"))
            until(lambda: len(events) == 2, "the watch is dead")
        finally:
            other.write_text(kept)
            house.gateway.put(usual)
        until(lambda: api.ask("GET", collection).ok, "the old policy does not come back")
        api.post(collection, config_map("last"))
        watch.result(_PATIENCE)
        until(lambda: healthy(house.gateway, TWO) == 1, "the other cluster does not come back")
    assert house.kubectl(cluster=TWO)("get", "--raw", "/readyz") == "ok"


def _collect(api: Api, collection: str, version: str, events: list[Json], last: str) -> None:
    with api:
        for event in api.watch(collection, timeout=_PATIENCE, resourceVersion=version):
            events.append(event)
            if event["object"]["metadata"]["name"] == last:
                return
    raise AssertionError("the watch ended")


def test_watches_end_one_after_the_other_when_the_gateway_goes(house: House, space: str, tmp_path: Path) -> None:
    """A gateway of its own with sixty watches: none is cut, and they come back over the whole time."""
    flags = [f"--drain-watches={DRAIN_SECONDS:g}s", "--drain-delay=0s", "--drain-timeout=20s"]
    gateway = Gateway(tmp_path / "leaving", ADDRESSES, flags)
    gateway.put(document(ONE, house.one.plane))
    with gateway, ThreadPoolExecutor(WATCHES) as pool:
        front = Front(gateway, ONE, house.one.plane)
        with front.api() as api:
            api.post(f"/api/v1/namespaces/{space}/configmaps", config_map("there"))
        opened: list[str] = []
        ends = [pool.submit(_end_of_a_watch, front, space, opened) for _ in range(WATCHES)]
        until(lambda: len(opened) == WATCHES or any(end.done() for end in ends), "not all watches were opened")
        for end in ends:
            assert not end.done(), end.result()
        began = time.monotonic()
        assert gateway.process.stop(_PATIENCE) == 0
        times = sorted(end.result(_PATIENCE) - began for end in ends)
        assert re.search("stopped", gateway.process.output())
    assert times[-1] < DRAIN_SECONDS * 2 + 10
    for start in range(int(DRAIN_SECONDS)):
        assert sum(start <= at < start + 1 for at in times) <= WATCHES // 2, f"a storm: {times}"


def _end_of_a_watch(front: Front, namespace: str, opened: list[str]) -> float:
    """When a watch ended; it must end as watches do, by the last chunk."""
    connection = front.connect(timeout=_PATIENCE)
    try:
        connection.request("GET", f"/api/v1/namespaces/{namespace}/configmaps?watch=true")
        response = connection.getresponse()
        assert response.status == http.client.OK
        opened.append(response.readline().decode())
        response.read()  # IncompleteRead when it is cut
        return time.monotonic()
    finally:
        connection.close()


def test_many_clients_share_few_connections_to_the_servers(house: House, space: str) -> None:
    connections = [house.front.connect() for _ in range(60)]
    try:
        for one in connections:
            one.request("GET", f"/api/v1/namespaces/{space}/configmaps")
            response = one.getresponse()
            response.read()
            assert response.status == http.client.OK
        assert 1 <= house.gateway.metric("wharf_gateway_server_connections", cluster=ONE) <= 8
    finally:
        for one in connections:
            one.close()


@pytest.mark.parametrize("workers", [2])
def test_workers_share_the_port(house: House, space: str, tmp_path: Path, workers: int) -> None:
    gateway = Gateway(tmp_path / "workers", ADDRESSES, [f"--workers={workers}", "--drain-delay=0s"])
    gateway.put(document(ONE, house.one.plane))
    with gateway:
        front = Front(gateway, ONE, house.one.plane)
        work: list[Future[bool]] = []
        with ThreadPoolExecutor(8) as pool:
            for number in range(40):
                work.append(pool.submit(_create, front, space, f"worker-{number}"))
        assert all(one.result() for one in work)
        assert gateway.process.stop(_PATIENCE) == 0


def _create(front: Front, space: str, name: str) -> bool:
    with front.api() as api:
        return api.ask("POST", f"/api/v1/namespaces/{space}/configmaps", config_map(name)).ok
