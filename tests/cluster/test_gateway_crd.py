"""The CRD of the chart on a real kube-apiserver: it is taken whole, and refuses what our reader refuses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from gateway.api.documents import BAD, FULL, GOOD, document, spec
from harness.api import Api
from harness.cluster import Cluster
from harness.crd import NAME, upstream_clusters
from wharf.gateway.api.parse import API_VERSION, parse_cluster
from wharf.gateway.api.status import ServerSight, Sight, plan_status

PATH = f"/apis/{API_VERSION}/upstreamclusters"
STRICT = f"{PATH}?fieldValidation=Strict"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    with upstream_clusters(cluster), cluster.api() as client:
        yield client


@pytest.fixture
def stored(api: Api) -> Iterator[Json]:
    """An accepted object."""
    yield api.post(STRICT, document(FULL))
    api.delete(f"{PATH}/blue.example.com")


def test_the_definition_is_structural_and_its_names_are_free(cluster: Cluster, api: Api) -> None:
    crd = cluster.kubectl.json("get", "crd", NAME)
    conditions = {one["type"]: one["status"] for one in crd["status"]["conditions"]}
    assert conditions["NamesAccepted"] == conditions["Established"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize("name", GOOD)
def test_good_documents_are_taken_and_come_back_meaning_the_same(api: Api, name: str) -> None:
    ours = document(GOOD[name], "good.example.com")
    stored = api.post(STRICT, copy.deepcopy(ours))
    api.delete(f"{PATH}/good.example.com")
    with_defaults, without = parse_cluster(stored), parse_cluster(ours)
    assert with_defaults.servers == without.servers
    assert with_defaults.policies == without.policies
    assert with_defaults.upstream == without.upstream
    assert with_defaults.schemas == without.schemas
    assert (with_defaults.timeouts, with_defaults.health) == (without.timeouts, without.health)


@pytest.mark.parametrize("name", [name for name in BAD if BAD[name].server])
def test_bad_documents_are_refused(api: Api, name: str) -> None:
    answer = api.ask("POST", STRICT, document(BAD[name].spec, "bad.example.com"))
    if answer.ok:
        api.delete(f"{PATH}/bad.example.com")
    assert answer.status in (400, 422), answer.body
    part = ".".join(BAD[name].path.split(".")[:2]).partition("[")[0]  # rules cannot name the entry of a list
    assert part in answer.body["message"]
    assert "cost" not in answer.body["message"]


@pytest.mark.parametrize("name", [name for name in BAD if not BAD[name].server])
def test_what_only_our_reader_sees_is_taken(api: Api, name: str) -> None:
    """So that the table above stays honest."""
    api.post(STRICT, document(BAD[name].spec, "odd.example.com"))
    api.delete(f"{PATH}/odd.example.com")


def test_files_are_not_for_the_api(api: Api) -> None:
    one = document(spec(upstream={"ca": {"file": "/etc/passwd"}}), "files.example.com")
    assert api.ask("POST", STRICT, one).status == 400
    assert api.ask("POST", PATH, one).status == 422  # the field is dropped, then nothing is left


def test_the_largest_documents_are_within_the_cost_of_the_rules(api: Api) -> None:
    names = [f"{'n' * 60}{number}" for number in range(64)]
    servers = [{"url": f"https://{name}.example.com:6443", "name": name} for name in names]
    policies = [{"name": f"p{number}", "servers": names, "flowControl": names[:16]} for number in range(64)]
    schemas = [{"name": name, "qps": 1} for name in names]
    big = {"servers": servers, "policies": policies, "flowControl": {"schemas": schemas}}
    assert api.ask("POST", STRICT, document(big, "big.example.com")).status == 201
    rule = {name: ["*", *names[:63]] for name in ("users", "groups")}
    denials = [{"name": f"d{number}", "deny": {}, "rules": [rule] * 4} for number in range(32)]
    many = document({**big, "policies": [*policies[:32], *denials]}, "many.example.com")
    assert api.ask("POST", STRICT, many).status == 201
    api.delete(f"{PATH}/many.example.com")
    policies[63]["servers"] = [*names[:63], "stranger"]
    assert api.ask("PUT", f"{PATH}/big.example.com", document(big, "big.example.com")).status == 422
    api.delete(f"{PATH}/big.example.com")


def patch(api: Api, name: str, status: Json, sight: Sight, now: float) -> Json:
    """Does what is planned, as the gateway would."""
    for one in plan_status(status, name, sight, now):
        path = f"{PATH}/{name}/status?fieldManager={one.manager}&force=true"
        answer = api.ask("PATCH", path, one.document, "application/apply-patch+yaml")
        assert answer.ok, answer.body
    found: Json = api.get(f"{PATH}/{name}").get("status", {})
    return found


def test_every_gateway_writes_its_own_entry_and_one_the_summary(cluster: Cluster, api: Api, stored: Json) -> None:
    name, now = "blue.example.com", 1_800_000_000.0
    good = ServerSight("one", "https://10.0.0.1:6443", True, "a", "ok", now - 60, 3, 9)
    bad = ServerSight("two", "https://10.0.0.2:6443", False, reason="connection refused", since=now)
    first = Sight("gw-a", 1, (good, good := ServerSight("two", "https://10.0.0.2:6443", True)))
    status = patch(api, name, {}, first, now)
    assert status["servers"] == "2/2"
    status = patch(
        api, name, status, Sight("gw-b", 1, (good, bad.__class__("one", "https://10.0.0.1:6443", False))), now
    )
    assert [entry["instance"] for entry in status["gateways"]] == ["gw-a", "gw-b"]
    status = patch(api, name, status, first, now + 5)
    assert status["servers"] == "1/2"
    assert plan_status(status, name, first, now + 6) == []
    shown = cluster.kubectl("get", "uc", name)
    assert "1/2" in shown
    assert "blue.example.org" in shown

    silent = patch(api, name, status, first, now + 300)
    assert [entry["instance"] for entry in silent["gateways"]] == ["gw-a"]
    silent = patch(api, name, silent, first, now + 301)
    assert silent["servers"] == "2/2"
    object_now = api.get(f"{PATH}/{name}")
    assert object_now["metadata"]["generation"] == 1
    managers = {one["manager"] for one in object_now["metadata"]["managedFields"] if one.get("subresource")}
    assert managers == {"wharf-gateway", "wharf-gateway-gw-a"}
