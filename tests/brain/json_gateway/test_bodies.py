"""What a JSON body may cost before its sender is known, and where large bodies are read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from brain.json_gateway.fakes import FakeExchange
from wharf.brain.api.pb import rpc
from wharf.brain.errors import TooManyOps, TooManyRequests
from wharf.brain.json_gateway import bodies
from wharf.brain.json_gateway.bodies import BodyLimits
from wharf.brain.json_gateway.call import THREAD_BYTES
from wharf.brain.json_gateway.gateway import JsonGateway
from wharf.brain.json_gateway.marshal import split_values
from wharf.wire.rpc import Call, Kind, Method, Peer

LIMITS = BodyLimits(2 * 1024 * 1024, 128)
TXN, RANGE, WATCH = (f"/etcdserverpb.{name}" for name in ("KV/Txn", "KV/Range", "Watch/Watch"))
LARGE = {"key": "A" * (2 * THREAD_BYTES)}
ALICE, BOB = Peer("127.0.0.1:1"), Peer("127.0.0.1:2")
REFUSED_OPS = {"code": 3, "message": TooManyOps.text}


class Node:
    """A gateway whose methods answer with nothing and keep what they were called with."""

    def __init__(self, limits: BodyLimits = LIMITS) -> None:
        self.called: list[tuple[str, int]] = []  # path, bytes of the message
        kinds = ((TXN, Kind.UNARY), (RANGE, Kind.UNARY))
        methods = [Method(path, kind, self._answer) for path, kind in kinds]
        self.gateway = JsonGateway([*methods, Method(WATCH, Kind.STREAM, self._watch)], limits)

    def _answer(self, data: bytes, call: Call) -> None:
        self.called.append((call.path, len(data)))
        call.reply(b"")

    def _watch(self, call: Call) -> None:
        call.on_message = lambda data: self.called.append((call.path, len(data)))
        call.on_half_close = call.finish

    def begin(self, path: str, body: Any, peer: Peer = ALICE) -> FakeExchange:
        exchange = FakeExchange("/v3/" + path, body, peer=peer)
        self.gateway.serve(exchange)
        return exchange

    async def ask(self, path: str, body: Any, peer: Peer = ALICE) -> tuple[int, Any]:
        exchange = self.begin(path, body, peer)
        await exchange.ended()
        return exchange.status, json.loads(exchange.body or b"null")


class SlowReading:
    """Each body above `THREAD_BYTES` is read only once the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = split_values
        self.begun: asyncio.Queue[threading.Event] = asyncio.Queue()  # of each body: set, it is read
        self.threads: set[int] = set()
        monkeypatch.setattr(bodies, "split_values", self._slowly)

    def _slowly(self, body: bytes) -> Iterator[Any]:
        if len(body) > THREAD_BYTES:
            self.threads.add(threading.get_ident())
            may = threading.Event()
            self._loop.call_soon_threadsafe(self.begun.put_nowait, may)
            assert may.wait(60)
        return self._read(body)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(main())


def txn_of(item: bytes, count: int) -> bytes:
    return b'{"compare":[' + b",".join([item] * count) + b"]}"


@pytest.mark.parametrize("item", [b"{}", b"[]", b"1", b'""', b"[[]]", b'{"a":[{}]}'])
def test_a_transaction_of_too_many_values_is_refused_before_it_is_parsed(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the values are: of empty objects, 4.19 MB took 200 MB of memory."""
    parsed: list[bytes] = []

    def parse(body: bytes) -> Iterator[Any]:
        parsed.append(body)
        raise AssertionError

    async def scenario() -> None:
        node = Node()
        monkeypatch.setattr(bodies, "split_values", parse)
        body = txn_of(item, 4_190_000 // (len(item) + 1))
        assert LIMITS.body_max > len(body) > 4_100_000
        assert await node.ask("kv/txn", body) == (400, REFUSED_OPS)
        assert (node.called, parsed) == ([], [])

    play(scenario)


def test_a_transaction_of_as_many_operations_as_are_allowed_is_served() -> None:
    put = {"requestPut": {"key": "YQ==", "value": "Yg==", "lease": "0", "prev_kv": True, "ignore_value": False}}
    compare = {"key": "YQ==", "range_end": "Yg==", "target": "MOD", "result": "EQUAL", "mod_revision": "5"}

    async def scenario() -> None:
        node = Node()
        many = {"compare": [compare] * 128, "success": [put] * 128, "failure": [put] * 128}
        assert (await node.ask("kv/txn", many))[0] == 200
        nested = {"success": [{"requestTxn": {"success": [put] * 30}}] * 30}
        assert (await node.ask("kv/txn", nested))[0] == 200
        assert [path for path, _ in node.called] == [TXN, TXN]

    play(scenario)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("kv/range", b'{"unknown":' + txn_of(b"{}", 1_000_000) + b"}", "more than 33792 values"),
        ("watch", b'{"create_request":{"key":"YQ=="}}' * 100_000, "more than 33792 values"),
        ("watch", b"1 " * 1_000_000, "expected an object"),
    ],
)
def test_other_requests_of_too_many_values_are_refused(path: str, body: bytes, reason: str) -> None:
    async def scenario() -> None:
        node = Node()
        status, refused = await node.ask(path, body)
        assert (status, refused["code"], reason in refused["message"]) == (400, 3, True), refused
        assert node.called == []
        await node.gateway.close()

    play(scenario)


def test_other_calls_are_served_while_a_large_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        node, reading = Node(), SlowReading(monkeypatch)
        large = node.begin("kv/range", LARGE)
        may_read = await reading.begun.get()
        assert (await node.ask("kv/range", {"key": "YQ=="}))[0] == 200
        assert not large.done
        may_read.set()
        await large.ended()
        assert large.status == 200
        message = rpc.RangeRequest(key=bytes(2 * THREAD_BYTES * 3 // 4)).SerializeToString()
        assert node.called[1] == (RANGE, len(message))
        assert threading.get_ident() not in reading.threads

    play(scenario)


def test_one_large_body_is_read_at_a_time_per_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        node, reading = Node(), SlowReading(monkeypatch)
        mine = [node.begin("kv/range", LARGE) for _ in range(3)]
        may_read = [await reading.begun.get()]
        other = node.begin("kv/range", LARGE, BOB)
        may_read.append(await reading.begun.get())
        assert reading.begun.empty()
        may_read[0].set()
        await mine[0].ended()
        may_read.append(await reading.begun.get())
        assert reading.begun.empty()
        for event in may_read:
            event.set()
        await other.ended()
        await mine[1].ended()
        (await reading.begun.get()).set()
        await mine[2].ended()
        assert [exchange.status for exchange in (*mine, other)] == [200] * 4

    play(scenario)


def test_bodies_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read gives its bytes back, and small bodies do not wait."""
    monkeypatch.setattr(bodies, "_WAITING_MAX", 0)

    async def scenario() -> None:
        size = len(json.dumps(LARGE))
        node, reading = Node(BodyLimits(size, 128)), SlowReading(monkeypatch)  # room for two of them
        waiting = [node.begin("kv/range", LARGE, peer) for peer in (ALICE, BOB)]
        assert await node.ask("kv/range", LARGE) == (429, {"code": 8, "message": TooManyRequests.text})
        assert (await node.ask("kv/range", {"key": "YQ=="}))[0] == 200
        for _ in waiting:
            (await reading.begun.get()).set()
        for exchange in waiting:
            await exchange.ended()
        last = node.begin("kv/range", LARGE)
        (await reading.begun.get()).set()
        await last.ended()
        assert last.status == 200

    play(scenario)


def test_a_client_that_leaves_while_its_body_waits_calls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        node, reading = Node(), SlowReading(monkeypatch)
        first, second, third = (node.begin("kv/range", LARGE) for _ in range(3))
        may_read = await reading.begun.get()
        first.cancel()
        second.cancel()
        may_read.set()
        (await reading.begun.get()).set()  # of the third: the second is not read at all
        await third.ended()
        assert len(node.called) == 1
        await node.gateway.close()
        assert reading.begun.empty()

    play(scenario)


def test_a_large_body_that_is_broken_is_refused() -> None:
    async def scenario() -> None:
        node = Node()
        status, refused = await node.ask("kv/range", json.dumps(LARGE).encode() + b"}")
        assert status == 200  # what follows the one message is not looked at, as in etcd
        status, refused = await node.ask("kv/range", json.dumps(LARGE).encode()[:-1])
        assert (status, refused["code"]) == (400, 3)

    play(scenario)
