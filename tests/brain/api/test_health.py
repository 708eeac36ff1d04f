"""Probes get etcd's answers."""

from __future__ import annotations

import json

import pytest
from brain.api.harness import MAINTENANCE, Server, run
from wharf.brain.api.health import Checks, HealthPages, Page
from wharf.brain.api.pb import rpc
from wharf.brain.errors import Stopped
from wharf.brain.store.shapes import RangeOp


class Fixture:
    """Probes of a store that reads well, whatever alarms are raised; `broken`: it refuses reads."""

    def __init__(self) -> None:
        self.alarms: list[str] = []
        self.broken = False
        self.draining = False
        self.counted: list[tuple[str, str, bool]] = []
        checks = Checks(lambda: self.alarms, self.read, lambda: self.draining)
        self.pages = HealthPages(checks, {"etcdserver": "3.7.1"}, lambda *what: self.counted.append(what))

    def read(self) -> None:
        if self.broken:
            raise Stopped

    def get(self, path: str, query: str = "") -> Page:
        page = self.pages.page("GET", path, query)
        assert page is not None
        return page


@pytest.fixture
def server() -> Fixture:
    return Fixture()


def test_healthy(server: Fixture) -> None:
    page = server.get("/health")
    assert (page.status, page.body) == (200, b'{"health":"true","reason":""}')
    assert server.counted == [("health", "", True)]


def test_an_alarm_is_unhealthy_unless_excluded(server: Fixture) -> None:
    server.alarms = ["NOSPACE"]
    page = server.get("/health")
    assert (page.status, json.loads(page.body)) == (503, {"health": "false", "reason": "ALARM NOSPACE"})
    assert server.get("/health", "exclude=NOSPACE").status == 200
    assert server.get("/health", "serializable=true&exclude=NOSPACE").status == 200
    assert server.get("/readyz").status == 200


def test_a_store_that_cannot_be_read_is_unhealthy(server: Fixture) -> None:
    server.broken = True
    page = server.get("/health")
    assert json.loads(page.body)["reason"] == "RANGE ERROR:etcdserver: server stopped"
    for path in ("/livez", "/readyz", "/healthz", "/readyz/serializable_read"):
        page = server.get(path)
        assert page.status == 503
        assert b"[-]serializable_read failed: etcdserver: server stopped\n" in page.body


def test_corruption_is_alive_but_not_ready() -> None:
    """On a real store, because what it refuses under the alarm decides."""

    async def scenario(server: Server) -> None:
        store = server.node.store
        checks = Checks(store.alarms, lambda: store.range(RangeOp(b"health")), lambda: False)
        pages = HealthPages(checks, {}, lambda *_: None)

        def get(path: str, query: str = "") -> Page:
            page = pages.page("GET", path, query)
            assert page is not None
            return page

        assert get("/readyz").status == 200
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=store.member_id, alarm=rpc.CORRUPT)
        await server.client.ask(MAINTENANCE + "Alarm", request, rpc.AlarmResponse)
        assert get("/livez").status == 200
        assert get("/readyz").body == (
            b"[-]data_corruption failed: alarm activated: CORRUPT\n"
            b"[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n"
        )
        assert get("/readyz", "exclude=data_corruption").status == 200
        assert get("/health").status == 503

    run(scenario)


def test_draining_is_alive_but_not_ready(server: Fixture) -> None:
    server.draining = True
    assert server.get("/livez").status == 200
    assert server.get("/readyz").status == 503


def test_details_come_when_asked_for(server: Fixture) -> None:
    assert server.get("/readyz").body == b"ok\n"
    verbose = server.get("/readyz", "verbose")
    assert verbose.body == (
        b"[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    )
    assert server.get("/livez/serializable_read").body == b"ok\n"


def test_version(server: Fixture) -> None:
    assert json.loads(server.get("/version").body) == {"etcdserver": "3.7.1"}


@pytest.mark.parametrize("path", ["/", "/nothing", "/livez/data_corruption", "/readyz/nothing", "/health/x"])
def test_other_paths_are_not_ours(server: Fixture, path: str) -> None:
    assert server.pages.page("GET", path, "") is None


def test_only_reading_is_allowed(server: Fixture) -> None:
    page = server.pages.page("POST", "/health", "")
    assert page is not None
    assert (page.status, page.headers["Allow"]) == (405, "GET")
