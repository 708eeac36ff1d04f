"""A set of objects kept up to date through everything that happens to its apiserver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from common.kube.fake_api import FakeApi, Question, item, listing, serving
from wharf.common.kube.client import KubeError
from wharf.common.kube.list_watch import ListWatch, Objects

GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
PATH = "/api/v1/pods"


@dataclass
class World:
    """A running ListWatch and its apiserver."""

    api: FakeApi
    states: asyncio.Queue[dict[str, str]] = field(default_factory=asyncio.Queue)
    failures: list[KubeError] = field(default_factory=list)
    watch: ListWatch | None = None

    def set(self, objects: Objects) -> None:
        versions = {
            f"{namespace}/{name}": one["metadata"]["resourceVersion"] for (namespace, name), one in objects.items()
        }
        self.states.put_nowait(versions)

    async def state(self) -> dict[str, str]:
        async with asyncio.timeout(10):
            return await self.states.get()

    async def asked_list(self) -> Question:
        question = await self.api.next(f"GET {PATH}")
        assert "watch" not in question.query
        return question

    async def asked_watch(self, version: str) -> Question:
        question = await self.api.next(f"GET {PATH}")
        assert (question.query["watch"], question.query["resourceVersion"]) == ("1", version)
        question.begin()
        return question


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[World]:
    api = FakeApi()
    async with serving(api, "h2") as client:
        world = World(api)
        world.watch = ListWatch(client, PATH, world.set, on_failure=world.failures.append, first_delay=0.01)
        running = asyncio.create_task(world.watch.run())
        try:
            yield world
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def test_objects_are_listed_then_watched() -> None:
    async def main() -> None:
        async with watching() as world:
            assert world.watch is not None
            question = await world.asked_list()
            assert not world.watch.synced.is_set()
            question.answer(listing(item("a", "1"), item("b", "2"), version="5"))
            assert await world.state() == {"ns/a": "1", "ns/b": "2"}
            assert world.watch.synced.is_set()
            question = await world.asked_watch("5")
            question.event("MODIFIED", item("a", "6"))
            assert await world.state() == {"ns/a": "6", "ns/b": "2"}
            question.event("DELETED", item("b", "7"))
            assert await world.state() == {"ns/a": "6"}
            question.event("ADDED", item("a", "8", namespace="other"))
            assert await world.state() == {"ns/a": "6", "other/a": "8"}
            assert not world.failures

    asyncio.run(main())


def test_a_watch_goes_on_from_the_last_event_or_bookmark() -> None:
    async def main() -> None:
        async with watching() as world:
            (await world.asked_list()).answer(listing(version="5"))
            question = await world.asked_watch("5")
            question.event("ADDED", item("a", "6"))
            question.exchange.finish()
            question = await world.asked_watch("6")
            question.event("BOOKMARK", item("", "9"))
            question.exchange.finish()
            question = await world.asked_watch("9")
            question.exchange.abort()  # not even a cut one makes a list necessary
            await world.asked_watch("9")
            assert [await world.state(), await world.state()] == [{}, {"ns/a": "6"}]

    asyncio.run(main())


def test_history_that_is_gone_means_a_list() -> None:
    async def main() -> None:
        async with watching() as world:
            (await world.asked_list()).answer(listing(item("a", "1"), version="5"))
            (await world.asked_watch("5")).event("ERROR", GONE)
            (await world.asked_list()).answer(listing(item("c", "8"), version="9"))
            question = await world.api.next(f"GET {PATH}")
            question.answer(GONE, 410)
            (await world.asked_list()).answer(listing(item("d", "10"), version="11"))
            await world.asked_watch("11")
            states = [await world.state() for _ in range(3)]
            assert states == [{"ns/a": "1"}, {"ns/c": "8"}, {"ns/d": "10"}]

    asyncio.run(main())


def test_edge_38_the_last_state_stays_while_the_apiserver_is_away() -> None:
    async def main() -> None:
        async with watching() as world:
            assert world.watch is not None
            (await world.asked_list()).answer(listing(item("a", "1"), version="5"))
            for _ in range(3):
                question = await world.api.next(f"GET {PATH}")
                question.answer(b"starting", 503)
            await world.asked_watch("5")
            assert list(world.watch.objects) == [("ns", "a")]
            assert len(world.failures) == 3
            assert await world.state() == {"ns/a": "1"}
            assert world.states.empty()

    asyncio.run(main())


def test_attempts_that_fail_come_ever_more_slowly() -> None:
    async def main() -> None:
        async with watching() as world:
            assert world.watch is not None
            for _ in range(3):
                (await world.asked_list()).answer(b"", 500)
            question = await world.asked_list()
            assert world.watch.failures == 3
            question.answer(listing(version="1"))
            await world.asked_watch("1")
            assert world.watch.failures == 0

    asyncio.run(main())


def test_objects_that_are_none_are_a_failure_like_any_other() -> None:
    async def main() -> None:
        async with watching() as world:
            (await world.asked_list()).answer({"items": ["junk"], "metadata": {"resourceVersion": "5"}})
            (await world.asked_list()).answer(listing(item("a", "1"), version="5"))
            (await world.asked_watch("5")).event("ADDED", {"metadata": {}})
            (await world.asked_watch("5")).event("ADDED", {"metadata": {"name": "b"}})
            (await world.asked_watch("5")).event("ADDED", item("c", "6"))
            assert [await world.state(), await world.state()] == [{"ns/a": "1"}, {"ns/a": "1", "ns/c": "6"}]

    asyncio.run(main())
