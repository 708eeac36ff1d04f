"""Lists of 5 000 objects and what resourceVersion promises, with the watch cache and straight from the store.

The second apiserver runs without watch cache: every list and watch of it is one of the store's own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.api import Api, Json, config_map
from harness.cluster import Cluster
from harness.load import GONE, config_maps, create_many
from wharf.cli.kube.argv import ApiserverOptions
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.controlplane import ControlPlaneOptions

COUNT = 5000
PAGE = 500
NAMESPACE = "many"
PATH = config_maps(NAMESPACE)
CACHED, DIRECT = 0, 1
GATEWAY_TIMEOUT = 504


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two apiservers with 5 000 ConfigMaps, every tenth labelled."""
    servers = (
        ApiserverOptions(port=0, compaction_interval="0"),
        ApiserverOptions(
            port=0, advertise_address="192.0.2.2", compaction_interval="0", extra=("--watch-cache=false",)
        ),
    )
    options = ControlPlaneOptions(apiservers=servers, controllers=False)
    cluster = Cluster.create(tmp_path_factory.mktemp("many"), options).start()
    try:
        with cluster.api() as api:
            api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        objects = [config_map(f"c-{n:05}", {"n": str(n)}, tenth=str(n % 10 == 0).lower()) for n in range(COUNT)]
        create_many(cluster, NAMESPACE, objects)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=[CACHED, DIRECT], ids=["watch-cache", "no-watch-cache"])
def api(many: Cluster, request: pytest.FixtureRequest) -> Iterator[Api]:
    client = many.api(request.param)
    yield client
    client.close()


@pytest.fixture
def direct(many: Cluster) -> Iterator[Api]:
    client = many.api(DIRECT)
    yield client
    client.close()


@dataclass
class Pages:
    """All pages of a paginated list."""

    pages: list[Json]

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for page in self.pages for item in page["items"]]

    @property
    def versions(self) -> set[str]:
        return {page["metadata"]["resourceVersion"] for page in self.pages}


def read_pages(api: Api, **query: str | int) -> Pages:
    pages = [api.get(PATH, limit=PAGE, **query)]
    while token := pages[-1]["metadata"].get("continue"):
        pages.append(api.get(PATH, limit=PAGE, **query, **{"continue": token}))
    return Pages(pages)


def names(count: int = COUNT) -> list[str]:
    return [f"c-{n:05}" for n in range(count)]


def test_pages_hold_everything_once_at_one_version(api: Api) -> None:
    read = read_pages(api)
    assert read.names == names()
    assert len(read.versions) == 1
    assert [page["metadata"].get("remainingItemCount", 0) for page in read.pages] == list(
        range(COUNT - PAGE, -1, -PAGE)
    )


def test_pages_do_not_see_what_happens_meanwhile(many: Cluster, api: Api) -> None:
    first = api.get(PATH, limit=PAGE)
    other = many.api()
    other.post(PATH, config_map("c-99999"))
    gone = other.get(f"{PATH}/c-04999")
    other.delete(f"{PATH}/c-04999")
    try:
        rest: list[str] = []
        token = first["metadata"]["continue"]
        while token:
            page = api.get(PATH, limit=PAGE, **{"continue": token})
            rest += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue")
        assert rest == names()[PAGE:]
        assert len(api.get(PATH)["items"]) == COUNT  # and a new list sees both
    finally:
        other.delete(f"{PATH}/c-99999")
        other.post(PATH, config_map("c-04999", gone["data"], **gone["metadata"]["labels"]))
        other.close()


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}], ids=["consistent", "any-version"])
def test_whole_list(api: Api, query: dict[str, str]) -> None:
    if query:  # the cache of this apiserver must have heard of everything first
        api.get(PATH)
    assert [item["metadata"]["name"] for item in api.get(PATH, **query)["items"]] == names()


def test_selectors(api: Api) -> None:
    labelled = api.get(PATH, labelSelector="tenth=true")["items"]
    assert len(labelled) == COUNT // 10
    one = api.get(PATH, fieldSelector="metadata.name=c-00042")["items"]
    assert [item["data"]["n"] for item in one] == ["42"]
    assert read_pages(api, labelSelector="tenth=true").names == names()[::10]


def test_a_consistent_list_sees_the_write_before_it(many: Cluster, api: Api) -> None:
    """The write goes through one apiserver, the list through each: no stale answer, ever."""
    writer = many.api()
    for number in range(20):
        body = config_map("c-00007", {"n": f"again-{number}"}, tenth="false")
        version = writer.put(f"{PATH}/c-00007", body)["metadata"]["resourceVersion"]
        listed = api.get(PATH, fieldSelector="metadata.name=c-00007")
        assert listed["items"][0]["data"] == {"n": f"again-{number}"}
        assert int(listed["metadata"]["resourceVersion"]) >= int(version)
    writer.close()


def test_exact_version_is_the_past(api: Api) -> None:
    before = api.get(PATH, limit=1)["metadata"]["resourceVersion"]
    old = api.get(f"{PATH}/c-00001")
    new = api.put(f"{PATH}/c-00001", {**old, "data": {"n": old["data"]["n"] + "+"}})
    past = api.get(PATH, limit=2, resourceVersion=before, resourceVersionMatch="Exact")
    assert past["metadata"]["resourceVersion"] == before
    assert past["items"][1]["data"] == old["data"]
    assert past["items"][1]["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
    version = new["metadata"]["resourceVersion"]
    now = api.get(PATH, limit=2, resourceVersion=version, resourceVersionMatch="NotOlderThan")
    assert now["items"][1]["data"] == new["data"]


def test_a_version_of_the_future_is_refused(api: Api) -> None:
    future = str(int(api.get(PATH, limit=1)["metadata"]["resourceVersion"]) + 1_000_000)
    for match in ("Exact", "NotOlderThan"):
        query = f"limit=1&resourceVersion={future}&resourceVersionMatch={match}"
        answer = api.ask("GET", f"{PATH}?{query}")
        assert answer.status == GATEWAY_TIMEOUT, answer
        causes = [cause["reason"] for cause in answer.body["details"]["causes"]]
        assert causes == ["ResourceVersionTooLarge"]


def test_a_compacted_version_is_gone_and_a_continue_goes_on(many: Cluster, direct: Api) -> None:
    first = direct.get(PATH, limit=PAGE)
    old = first["metadata"]["resourceVersion"]
    made = direct.post(PATH, config_map("z-compacted"))
    now = direct.put(f"{PATH}/z-compacted", {**made, "data": {"a": "b"}})["metadata"]["resourceVersion"]
    compact(many, now)
    try:
        exact = direct.ask("GET", f"{PATH}?limit=1&resourceVersion={old}&resourceVersionMatch=Exact")
        assert (exact.status, exact.body["reason"]) == (GONE, "Expired")

        token = first["metadata"]["continue"]
        expired = direct.ask("GET", f"{PATH}?limit={PAGE}&continue={token}")
        assert (expired.status, expired.body["reason"]) == (GONE, "Expired")
        page = direct.get(PATH, limit=PAGE, **{"continue": expired.body["metadata"]["continue"]})
        assert page["items"][0]["metadata"]["name"] == f"c-{PAGE:05}"

        events = list(direct.watch(PATH, 10, resourceVersion=old))
        assert [event["object"]["code"] for event in events] == [GONE]
        assert direct.get(PATH, limit=1, resourceVersion=now, resourceVersionMatch="Exact")["items"]
    finally:
        direct.delete(f"{PATH}/z-compacted")


def compact(cluster: Cluster, revision: str) -> None:
    etcdctl = locate("etcdctl", search_path=False, report=lambda _: None)
    command = [str(etcdctl), "--endpoints", cluster.store.url, "compact", revision]
    subprocess.run(command, check=True, capture_output=True)
