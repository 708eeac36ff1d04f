"""The client of kube-apiservers, over real sockets and both versions of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from common.kube.fake_api import FakeApi, Question, item, listing, serving
from wharf.common.kube import client as kube_client
from wharf.common.kube.client import KubeClient, StatusError, Unreachable
from wharf.common.kube.status import encode, failure
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import RequestFailed, Target
from wharf.wire.web import Failure, Fault

GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 30))


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_documents_are_read_and_written(protocol: str) -> None:
    async def main() -> None:
        api = FakeApi(lambda question: question.answer({"got": question.body.decode(), **question.query}))
        async with serving(api, protocol, [(b"authorization", b"Bearer x")]) as client:
            assert await client.get("/api/v1/namespaces/a/secrets/b") == {"got": ""}
            assert await client.create("/apis/x/v1/ys", {"a": "é"}) == {"got": '{"a":"\\u00e9"}'}
            assert await client.patch_status("/apis/x/v1/ys/z", {"status": {}}) == {"got": '{"status":{}}'}
            applied = await client.patch_status("/apis/x/v1/ys/z", {"status": {}}, apply_as="gateway-1")
            assert applied == {"got": '{"status":{}}', "fieldManager": "gateway-1", "force": "true"}
        assert api.lines == [
            "GET /api/v1/namespaces/a/secrets/b",
            "POST /apis/x/v1/ys",
            "PATCH /apis/x/v1/ys/z/status",
            "PATCH /apis/x/v1/ys/z/status",
        ]

    run(main())


def test_each_request_says_who_asks_and_in_what_form() -> None:
    async def main() -> None:
        seen: list[tuple[bytes | None, ...]] = []

        def answer(question: Question) -> None:
            seen.append(tuple(map(question.exchange.header, (b"authorization", b"accept", b"content-type"))))
            question.answer({})

        async with serving(FakeApi(answer), headers=[(b"authorization", b"Bearer x")]) as client:
            await client.get("/version")
            await client.patch_status("/x", {})
            await client.patch_status("/x", {}, apply_as="me")
        assert seen == [
            (b"Bearer x", b"application/json", None),
            (b"Bearer x", b"application/json", b"application/merge-patch+json"),
            (b"Bearer x", b"application/json", b"application/apply-patch+yaml"),
        ]

    run(main())


def test_lists_are_read_page_by_page() -> None:
    async def main() -> None:
        pages = {"": listing(item("a", "1"), version="7", more="next"), "next": listing(item("b", "2"), version="7")}
        queries: list[dict[str, str]] = []

        def answer(question: Question) -> None:
            queries.append(question.query)
            question.answer(pages[question.query.get("continue", "")])

        async with serving(FakeApi(answer)) as client:
            found = await client.list("/api/v1/pods", labels="app in (a,b)", fields="metadata.name=x", page=1)
        assert [one["metadata"]["name"] for one in found.items] == ["a", "b"]
        assert found.resource_version == "7"
        asked = {"limit": "1", "labelSelector": "app in (a,b)", "fieldSelector": "metadata.name=x"}
        assert queries == [asked, {**asked, "continue": "next"}]

    run(main())


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (encode(failure(403, "no"))[1], 403, "no"),
        (b"<html>bad gateway</html>", 502, "<html>bad gateway</html>"),
        (b"[]", 500, "[]"),
        (b"", 404, ""),
    ],
)
def test_a_refusal_is_told_as_its_status(body: bytes, code: int, message: str) -> None:
    async def main() -> None:
        async with serving(FakeApi(lambda question: question.answer(body, code))) as client:
            with pytest.raises(StatusError) as error:
                await client.get("/x")
            assert (error.value.status.code, error.value.status.message) == (code, message)
            events = client.watch("/x", "1")
            with pytest.raises(StatusError) as error:
                await anext(events)
            assert error.value.status.code == code

    run(main())


@pytest.mark.parametrize("body", [b"no json", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_an_answer_that_cannot_be_read_is_none(body: bytes) -> None:
    async def main() -> None:
        async with serving(FakeApi(lambda question: question.answer(body))) as client:
            with pytest.raises(Unreachable):
                await client.get("/x")

    run(main())


def test_a_server_gone_bad_cannot_fill_the_memory_with_the_answer_to_a_review() -> None:
    async def main() -> None:
        async with serving(FakeApi(lambda question: question.answer(b'{"a":"' + b"x" * (5 << 20) + b'"}'))) as client:
            with pytest.raises(Unreachable):
                await client.create("/apis/authentication.k8s.io/v1/tokenreviews", {})
            assert await client.get("/x"), "a document that is read may be longer"

    run(main())


def test_an_apiserver_that_is_not_there_is_unreachable() -> None:
    async def main() -> None:
        async with serving(FakeApi()) as client:
            pass
        pool = HttpPool(Target("127.0.0.1", 1))
        lost = KubeClient(lambda: pool)
        for client in (client, lost):  # noqa: B020 — the closed one, and one that was never there
            with pytest.raises(Unreachable):
                await client.get("/x")
            with pytest.raises(Unreachable):
                await anext(client.watch("/x", "1"))
        await pool.close()

    run(main())


def test_without_a_pool_it_is_unreachable() -> None:
    def no_pool() -> HttpPool:
        raise RequestFailed(Failure(Fault.UNSENT, "no server is ready"))

    async def main() -> None:
        client = KubeClient(no_pool)
        with pytest.raises(Unreachable, match="no server is ready"):
            await client.get("/x")
        with pytest.raises(Unreachable, match="no server is ready"):
            await anext(client.watch("/x", "1"))

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_edge_22_events_come_one_by_one_however_they_are_cut(protocol: str) -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api, protocol) as client:
            events = client.watch("/api/v1/pods", "7", fields="metadata.name=a", seconds=60)
            first = asyncio.create_task(anext(events))
            question = await api.next("GET /api/v1/pods")
            assert question.query == {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": "7",
                "timeoutSeconds": "60",
                "fieldSelector": "metadata.name=a",
            }
            question.begin()
            whole = json.dumps({"type": "ADDED", "object": item("a", "8")}).encode() + b"\n"
            question.exchange.send(whole[:5])
            await asyncio.sleep(0)
            assert not first.done()
            question.exchange.send(whole[5:] + b"\n\n" + whole + whole[:9])
            assert await first == ("ADDED", item("a", "8"))
            assert await anext(events) == ("ADDED", item("a", "8"))
            question.exchange.send(whole[9:])
            question.event("BOOKMARK", item("", "9"))
            question.exchange.send(b'{"cut')
            question.exchange.finish()
            assert [kind async for kind, _ in events] == ["ADDED", "BOOKMARK"]

    run(main())


def test_a_watch_that_is_closed_ends_at_the_apiserver() -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api, "h2") as client:
            events = client.watch("/api/v1/pods", "7")
            async with contextlib.aclosing(events):
                first = asyncio.create_task(anext(events))
                question = await api.next("GET /api/v1/pods")
                question.begin()
                question.event("ADDED", item("a", "8"))
                await first
            await api.cancelled.wait()

    run(main())


def test_a_cancelled_watch_ends_at_the_apiserver() -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api, "h2") as client:
            first = asyncio.create_task(anext(client.watch("/api/v1/pods", "7")))
            await api.next("GET /api/v1/pods")
            first.cancel()
            await api.cancelled.wait()
            await asyncio.gather(first, return_exceptions=True)

    run(main())


@pytest.mark.parametrize("line", [b"null", b"[]", b"{}", b'{"type":1}', b"junk"])
def test_what_is_no_event_ends_a_watch(line: bytes) -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api) as client:
            first = asyncio.create_task(anext(client.watch("/x", "7")))
            question = await api.next("GET /x")
            question.begin()
            question.exchange.send(line + b"\n")
            with pytest.raises(Unreachable):
                await first

    run(main())


def test_a_watch_that_is_cut_is_unreachable_after_what_came() -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api, "h2") as client:
            events = client.watch("/x", "7")
            first = asyncio.create_task(anext(events))
            question = await api.next("GET /x")
            question.begin()
            question.event("ADDED", item("a", "8"))
            await first
            question.exchange.abort()
            with pytest.raises(Unreachable):
                await anext(events)

    run(main())


def test_a_watch_that_its_server_does_not_end_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api, "h2") as client:
            events = client.watch("/x", "7", seconds=0.1)
            first = asyncio.create_task(anext(events))
            question = await api.next("GET /x")
            question.begin()
            question.event("ADDED", item("a", "8"))
            await first
            with pytest.raises(Unreachable, match="does not end in time"):
                await anext(events)
            await api.cancelled.wait()

    monkeypatch.setattr(kube_client, "_OVERTIME", 0.1)
    run(main())


def test_an_error_event_is_a_refusal() -> None:
    async def main() -> None:
        api = FakeApi()
        async with serving(api) as client:
            first = asyncio.create_task(anext(client.watch("/x", "7")))
            question = await api.next("GET /x")
            question.begin()
            question.event("ERROR", GONE)
            with pytest.raises(StatusError) as error:
                await first
            assert error.value.status.code == 410

    run(main())
