"""etcd's JSON paths on the client port of a running node, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from harness.exposition import repeated_samples
from wharf.brain.api.pb import rpc
from wharf.brain.app import Brain
from wharf.brain.config import load_config
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import ProtocolName
from wire.net import eventually
from wire.web_net import Sink, pooled

PROTOCOLS: tuple[ProtocolName, ...] = ("http1", "h2")
WATCH_ALL = {"create_request": {"key": "AA==", "range_end": "AA=="}}


@asynccontextmanager
async def served(*flags: str) -> AsyncIterator[tuple[Brain, str]]:
    """A node and its client address."""
    brain = Brain(load_config(("--engine=memory:", "--listen-client-urls=http://127.0.0.1:0", *flags), {}).config)
    await brain.start()
    try:
        yield brain, brain.addresses[0]
    finally:
        await brain.stop()


async def post(pool: HttpPool, path: str, body: Any, *, greedy: bool = True) -> Sink:
    link = await pool.connect()
    data = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    sink = Sink(link.request(b"POST", f"/v3/{path}".encode(), b"brain.test", headers, end=False), greedy=greedy)
    sink.request.send(data)
    sink.request.finish()
    return sink


async def ask(pool: HttpPool, path: str, body: Any) -> tuple[int, Any]:
    sink = await post(pool, path, body)
    await sink.over.wait()
    return sink.status, json.loads(bytes(sink.data))


async def metrics(pool: HttpPool) -> str:
    link = await pool.connect()
    sink = Sink(link.request(b"GET", b"/metrics", b"brain.test", []))
    await sink.over.wait()
    return bytes(sink.data).decode()


async def metric(pool: HttpPool, name: str) -> str:
    (line,) = [line for line in (await metrics(pool)).splitlines() if line.startswith(name + " ")]
    return line.rpartition(" ")[2]


def run(scenario: Callable[[str], Awaitable[None]], *flags: str) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), served(*flags) as (_, address):
            await scenario(address)

    asyncio.run(main())


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_json_and_grpc_share_the_port_and_the_store(protocol: ProtocolName) -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), protocol) as pool, grpc.aio.insecure_channel(address) as channel:
            value = bytes(100_000)
            status, _ = await ask(pool, "kv/put", {"key": "YQ==", "value": b64encode(value).decode()})
            assert status == 200
            answer = await channel.unary_unary("/etcdserverpb.KV/Range", bytes, bytes)(
                rpc.RangeRequest(key=b"a").SerializeToString()
            )
            assert rpc.RangeResponse.FromString(answer).kvs[0].value == value
            status, refused = await ask(pool, "kv/range", {})
            assert (status, refused) == (400, {"code": 3, "message": "etcdserver: key is not provided"})
            puts = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",'
            assert await metric(pool, puts + 'grpc_type="unary"}') == "1"
            assert await metric(pool, "etcd_mvcc_range_total") == "2"

    run(scenario)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_watch_is_streamed_and_ends_with_its_client(protocol: ProtocolName) -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), protocol) as pool, pooled(port_of(address), "h2") as other:
            sink = await post(pool, "watch", WATCH_ALL)
            await eventually(lambda: b"created" in sink.data)
            await ask(other, "kv/put", {"key": "YQ=="})
            await eventually(lambda: b"events" in sink.data)
            (_, event) = [json.loads(line) for line in bytes(sink.data).splitlines()]
            assert event["result"]["events"][0]["kv"]["key"] == "YQ=="
            assert await metric(other, "etcd_debugging_mvcc_watcher_total") == "1"
            sink.request.reset()
            while await metric(other, "etcd_debugging_mvcc_watcher_total") != "0":
                pass
            assert await metric(other, "etcd_debugging_mvcc_watch_stream_total") == "0"

    run(scenario)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_reads_nothing_bounds_what_is_kept_for_it(protocol: ProtocolName) -> None:
    """Its watch falls back to the log, and gets every event once it reads again."""

    async def scenario(address: str) -> None:
        async with pooled(port_of(address), protocol) as pool, pooled(port_of(address), "h2") as other:
            sink = await post(pool, "watch", WATCH_ALL, greedy=False)
            await eventually(lambda: sink.size)
            value = b64encode(bytes(300_000)).decode()
            for _ in range(60):  # 24 MB of JSON
                status, _ = await ask(other, "kv/put", {"key": "YQ==", "value": value})
                assert status == 200
            assert await metric(other, "etcd_debugging_mvcc_slow_watcher_total") == "1"
            assert sink.size < 12 * 1024 * 1024
            sink.greedy = True
            sink.take_all()
            await eventually(lambda: sink.size > 60 * 400_000)

    run(scenario)


def test_a_stop_ends_a_watch_with_an_error_line() -> None:
    async def main() -> None:
        async with asyncio.timeout(60), served() as (brain, address), pooled(port_of(address), "http1") as pool:
            sink = await post(pool, "watch", WATCH_ALL)
            await eventually(lambda: b"created" in sink.data)
            await brain.stop()
            await sink.over.wait()
            last = json.loads(bytes(sink.data).splitlines()[-1])
            assert last == {"error": {"code": 14, "message": "etcdserver: server stopped"}}

    asyncio.run(main())


def test_a_node_by_itself_reports_each_sample_once() -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), "http1") as pool:
            await ask(pool, "kv/range", {"key": "YQ=="})
            text = await metrics(pool)
            assert "etcd_server_proposals_pending 0\n" in text
            assert repeated_samples(text) == []

    run(scenario, "--metrics=extensive")


def test_json_calls_are_timed_and_those_with_broken_json_are_counted() -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), "http1") as pool:
            assert (await ask(pool, "kv/range", {"key": "YQ=="}))[0] == 200
            assert (await ask(pool, "kv/range", []))[0] == 400
            labels = 'grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}'
            assert await metric(pool, "grpc_server_handling_seconds_count{" + labels) == "2"
            assert await metric(pool, "grpc_server_started_total{" + labels) == "2"
            assert await metric(pool, 'grpc_server_handled_total{grpc_code="InvalidArgument",' + labels) == "1"
            assert await metric(pool, "grpc_server_msg_received_total{" + labels) == "1"

    run(scenario, "--metrics=extensive")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_transaction_of_a_million_comparisons_is_refused(protocol: ProtocolName) -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), protocol) as pool:
            found = await ask(pool, "kv/txn", {"compare": [{}] * 1_000_000})
            assert found == (400, {"code": 3, "message": "etcdserver: too many operations in txn request"})

    run(scenario)


def test_the_paths_can_be_turned_off_as_in_etcd() -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), "http1") as pool:
            sink = await post(pool, "kv/range", {"key": "YQ=="})
            await sink.over.wait()
            assert sink.status == 415

    run(scenario, "--enable-grpc-gateway=false")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("allowed", "expected"), [("Brain.test", 200), ("", 200), ("good.example", 421)])
def test_the_host_whitelist_holds(protocol: ProtocolName, allowed: str, expected: int) -> None:
    async def scenario(address: str) -> None:
        async with pooled(port_of(address), protocol) as pool:
            sink = await post(pool, "kv/put", {"key": "YQ=="})
            await sink.over.wait()
            assert sink.status == expected

    run(scenario, f"--host-whitelist={allowed}")
