"""The home cluster as a source: what is watched, when a snapshot is told, and that it never steps back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from gateway.api.documents import document, spec
from wharf.common.kube.client import KubeClient, KubeError, Unreachable
from wharf.common.kube.list_watch import Objects
from wharf.gateway.sources.base import ClusterObjects, Reason
from wharf.gateway.sources.kube import CLUSTERS, PATIENCE, KubeSource, Need, secret_need, slices_need

Json = dict[str, Any]
TOKEN = {"token": {"secretRef": {"namespace": "wharf", "name": "token"}}}
SECRET = secret_need("wharf", "token")


class Watch:
    """One watch of the home cluster, told by the test what it sees."""

    def __init__(self, on_set: Callable[[Objects], None], on_failure: Callable[[KubeError], None]) -> None:
        self.on_set = on_set
        self.on_failure = on_failure
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False


class Home:
    """A source under way over watches that the test feeds."""

    def __init__(self, patience: float) -> None:
        self.told: asyncio.Queue[ClusterObjects] = asyncio.Queue()
        self.watches: dict[Need, Watch] = {}
        self.source = KubeSource(cast(KubeClient, None), self.told.put_nowait, self._make, patience)
        self.task = asyncio.create_task(self.source.run())

    def _make(self, need: Need, on_set: Callable[[Objects], None], on_failure: Callable[[KubeError], None]) -> Watch:
        self.watches[need] = Watch(on_set, on_failure)
        return self.watches[need]

    async def watch(self, need: Need) -> Watch:
        for _ in range(10):
            if need in self.watches and self.watches[need].running:
                return self.watches[need]
            await asyncio.sleep(0)
        raise AssertionError(f"nobody watches {need}")

    async def clusters(self, *documents: Json) -> None:
        (await self.watch(Need(CLUSTERS))).on_set({("", one["metadata"]["name"]): one for one in documents})

    async def secret(self, **entries: bytes) -> None:
        data = {key: base64.b64encode(value).decode() for key, value in entries.items()}
        (await self.watch(SECRET)).on_set({("wharf", "token"): {"metadata": {}, "data": data}})

    async def quiet(self) -> None:
        """Everything told so far has been worked through, and nothing came of it."""
        for _ in range(5):
            await asyncio.sleep(0)
        assert self.told.empty()


def run(scenario: Callable[[Home], Awaitable[None]], patience: float = PATIENCE) -> None:
    async def all_of_it() -> None:
        home = Home(patience)
        try:
            async with asyncio.timeout(20):
                await scenario(home)
            assert not home.task.done()
        finally:
            home.task.cancel()
            await asyncio.gather(home.task, return_exceptions=True)
        assert not any(watch.running for watch in home.watches.values())

    asyncio.run(all_of_it())


def cluster(name: str = "blue", generation: int = 1, status: Json | None = None, uid: str = "u", **parts: Any) -> Json:
    one = document(spec(**parts), name)
    one["metadata"] |= {"generation": generation, "uid": uid}
    return one | ({"status": status} if status else {})


def token(objects: ClusterObjects) -> bytes:
    material = objects.clusters[0].upstream.token
    return material.pem if material is not None else b""


def test_clusters_without_references_are_told_at_once() -> None:
    async def scenario(home: Home) -> None:
        await home.quiet()
        assert not home.source.current.synced
        await home.clusters(cluster("blue"), cluster("green"))
        told = await home.told.get()
        assert told.synced
        assert [one.name for one in told.clusters] == ["blue", "green"]

    run(scenario)


def test_a_snapshot_waits_for_the_secrets_it_needs() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster(upstream=TOKEN))
        await home.quiet()
        await home.secret(token=b"first")
        assert token(await home.told.get()) == b"first"
        await home.secret(token=b"second")
        assert token(await home.told.get()) == b"second"

    run(scenario)


def test_a_secret_that_is_not_answered_holds_back_only_the_cluster_that_needs_it() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster("blue"), cluster("green"))
        before = await home.told.get()
        await home.clusters(cluster("blue", 2, upstream=TOKEN), cluster("green", 2, retry={"attempts": 1}))
        told = await home.told.get()
        assert [(one.name, one.generation) for one in told.clusters] == [("blue", 1), ("green", 2)]
        assert told.clusters[0] == before.clusters[0]
        assert told.refused == ()
        await home.clusters(cluster("blue", 2, upstream=TOKEN), cluster("red"))
        assert [one.name for one in (await home.told.get()).clusters] == ["blue", "red"]
        await home.secret(token=b"first")
        assert token(await home.told.get()) == b"first"

    run(scenario)


def test_a_new_cluster_whose_secret_is_not_answered_is_refused_after_some_time() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster("blue", upstream=TOKEN), cluster("green"))
        told = await home.told.get()
        assert [one.name for one in told.clusters] == ["green"]
        [refused] = told.refused
        assert refused.reason is Reason.MATERIAL
        assert "Secret wharf/token cannot be read: no answer within 0.05 s" in refused.problems[0]
        await home.secret(token=b"first")
        assert (await home.told.get()).refused == ()

    run(scenario, patience=0.05)


def test_secrets_are_watched_by_name_and_only_while_somebody_refers_to_them() -> None:
    async def scenario(home: Home) -> None:
        assert Need("/api/v1/namespaces/wharf/secrets", fields="metadata.name=token") == SECRET
        await home.clusters(cluster(upstream=TOKEN))
        await home.secret(token=b"first")
        await home.told.get()
        await home.clusters(cluster(generation=2))
        await home.told.get()
        await home.quiet()
        assert not home.watches[SECRET].running

    run(scenario)


def test_a_secret_that_may_not_be_read_refuses_its_cluster_only() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster("blue", upstream=TOKEN), cluster("green"))
        (await home.watch(SECRET)).on_failure(Unreachable("403 Forbidden"))
        told = await home.told.get()
        assert [one.name for one in told.clusters] == ["green"]
        [refused] = told.refused
        assert refused.reason is Reason.MATERIAL
        assert refused.problems == ("spec.upstream.token: Secret wharf/token cannot be read: 403 Forbidden",)
        await home.secret(token=b"first")
        assert (await home.told.get()).refused == ()

    run(scenario)


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({}, "does not exist"),
        ({("wharf", "token"): {"metadata": {}, "data": {"other": "eA=="}}}, "has no entry token"),
        ({("wharf", "token"): {"metadata": {}, "data": {"token": "%"}}}, "data[token] is not base64"),
        ({("wharf", "token"): {"metadata": {}, "data": {"token": "YSBi"}}}, "is not a token"),
    ],
)
def test_what_is_wrong_with_a_secret_is_told(objects: Objects, words: str) -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster(upstream=TOKEN))
        (await home.watch(SECRET)).on_set(objects)
        [problem] = (await home.told.get()).refused[0].problems
        assert problem.startswith("spec.upstream.token: Secret wharf/token")
        assert words in problem

    run(scenario)


def test_a_secret_that_vanishes_leaves_the_last_one_in_use() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster(upstream=TOKEN))
        await home.secret(token=b"first")
        await home.told.get()
        (await home.watch(SECRET)).on_set({})
        told = await home.told.get()
        assert token(told) == b"first"
        assert told.refused[0].kept

    run(scenario)


def test_a_broken_version_leaves_the_one_before_with_fresh_secrets() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster(upstream=TOKEN))
        await home.secret(token=b"first")
        await home.told.get()
        await home.clusters(cluster(generation=2, upstream=TOKEN, retry={"budget": 7}))
        told = await home.told.get()
        assert told.refused[0].kept
        assert (told.refused[0].generation, told.clusters[0].generation) == (2, 1)
        await home.secret(token=b"second")
        assert token(await home.told.get()) == b"second"

    run(scenario)


def test_a_new_object_of_an_old_name_does_not_inherit_its_past() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster())
        await home.told.get()
        await home.clusters(cluster(uid="another", retry={"budget": 7}))
        told = await home.told.get()
        assert told.clusters == ()
        assert not told.refused[0].kept

    run(scenario)


def test_a_written_status_is_no_change() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster())
        await home.told.get()
        await home.clusters(cluster(status={"servers": "1/2"}))
        await home.quiet()

    run(scenario)


def test_edge_38_the_last_state_stays_while_the_home_cluster_is_away() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster(upstream=TOKEN))
        await home.secret(token=b"first")
        before = await home.told.get()
        for watch in home.watches.values():
            watch.on_failure(Unreachable("connection refused"))
        await home.quiet()
        assert home.source.current == before

    run(scenario)


def test_edge_38_a_deleted_cluster_does_not_come_back() -> None:
    async def scenario(home: Home) -> None:
        await home.clusters(cluster("blue"), cluster("green"))
        await home.told.get()
        await home.clusters(cluster("green"))
        assert [one.name for one in (await home.told.get()).clusters] == ["green"]
        await home.clusters(cluster("green", status={"a": 1}))
        await home.quiet()

    run(scenario)


def test_a_home_cluster_that_is_away_at_the_start_is_waited_for() -> None:
    async def scenario(home: Home) -> None:
        (await home.watch(Need(CLUSTERS))).on_failure(Unreachable("connection refused"))
        await home.quiet()
        assert not home.source.current.synced
        await home.clusters()
        assert (await home.told.get()).synced

    run(scenario)


def test_endpoint_slices_of_discovered_services_are_told() -> None:
    async def scenario(home: Home) -> None:
        one = cluster(discovery={"service": {"namespace": "a", "name": "kube"}})
        await home.clusters(one)
        need = slices_need("a", "kube")
        assert need.labels == "kubernetes.io/service-name=kube"
        slices: list[Json] = [{"metadata": {"name": f"kube-{number}"}, "endpoints": []} for number in (1, 2)]
        objects = {("a", item["metadata"]["name"]): item for item in slices}
        (await home.watch(need)).on_set(objects)
        assert (await home.told.get()).slices == {("a", "kube"): tuple(slices)}
        del objects["a", "kube-1"]
        (await home.watch(need)).on_set(dict(objects))
        assert (await home.told.get()).slices == {("a", "kube"): (slices[1],)}

    run(scenario)
