"""Metrics are found under etcd's names."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import grpc
import grpc.aio
import pytest
from brain.api.fakes import FakeCall
from brain.api.harness import KV, WATCH, Server, run
from harness.exposition import repeated_samples
from wharf.brain.api.pb import election, lock, rpc
from wharf.brain.api.table import with_tools
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch
from wharf.brain.ha.metrics import node_families
from wharf.brain.ha.node import HaNode
from wharf.brain.measured import measured
from wharf.brain.metrics import (
    EventMetrics,
    HandlingTimes,
    HealthMetrics,
    collect,
    grpc_type,
    rpc_families,
    server_families,
    store_families,
)
from wharf.common.clock import FakeClock
from wharf.common.metrics import Registry, render
from wharf.wire.health import Health
from wharf.wire.rpc import Call, Code, Kind, Method
from wharf.wire.server import ListenerConfig, serve


def text(registry: Registry) -> str:
    return render(registry.collect()).decode()


def test_changes_are_counted_by_kind() -> None:
    registry = Registry()
    put, delete = (2, 0, b"k", b"", None), (2, 1, b"k", b"", None)
    EventMetrics(registry).count([put, put, delete], 2)
    assert "etcd_mvcc_put_total 2\n" in text(registry)
    assert "etcd_mvcc_delete_total 1\n" in text(registry)


def test_health_checks_are_counted() -> None:
    registry = Registry()
    metrics = HealthMetrics(registry)
    metrics.count("health", "", True)
    metrics.count("readyz", "serializable_read", False)
    found = text(registry)
    assert "etcd_server_health_success 1\n" in found
    assert 'etcd_server_healthcheck{type="readyz",name="serializable_read"} 0\n' in found
    assert 'etcd_server_healthchecks_total{type="readyz",name="serializable_read",status="error"} 1\n' in found


def test_handling_times_are_per_method() -> None:
    now = [0.0]
    times = HandlingTimes(lambda: now[0])
    call = FakeCall("/etcdserverpb.KV/Range")
    times.on_start(call)
    now[0] = 0.02
    times.on_end(call, 0)
    times.on_end(call, 0)
    labels = 'grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    found = render(times.families()).decode()
    assert f'grpc_server_handling_seconds_bucket{{{labels},le="0.01"}} 0\n' in found
    assert f'grpc_server_handling_seconds_bucket{{{labels},le="0.025"}} 1\n' in found
    assert f"grpc_server_handling_seconds_count{{{labels}}} 1\n" in found


def test_commits_are_timed_until_they_are_durable() -> None:
    registry, clock = Registry(), FakeClock()

    async def commit() -> None:
        engine = measured(open_engine("memory:"), registry, clock)
        epoch = (await engine.promote()).epoch
        done = asyncio.Event()
        revision = engine.snapshot().revision
        engine.submit(Batch(epoch, revision, revision + 1, []), lambda _: done.set())
        clock.advance(0.003)
        await done.wait()
        assert engine.snapshot().revision == revision + 1
        engine.close()

    asyncio.run(commit())
    for name in ("etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"):
        assert f'{name}_bucket{{le="0.002"}} 0\n' in text(registry)
        assert f'{name}_bucket{{le="0.004"}} 1\n' in text(registry)
    assert "etcd_server_slow_apply_total 0\n" in text(registry)


def test_slow_commits_are_counted() -> None:
    registry, clock = Registry(), FakeClock()

    async def commit() -> None:
        engine = measured(open_engine("memory:"), registry, clock)
        epoch = (await engine.promote()).epoch
        done = asyncio.Event()
        revision = engine.snapshot().revision
        engine.submit(Batch(epoch, revision, revision + 1, []), lambda _: done.set())
        clock.advance(0.11)
        await done.wait()
        engine.close()

    asyncio.run(commit())
    assert "etcd_server_slow_apply_total 1\n" in text(registry)


def test_defragmentations_are_timed() -> None:
    registry = Registry()
    engine = measured(open_engine("memory:"), registry)
    assert "etcd_disk_backend_defrag_duration_seconds_count 0\n" in text(registry)
    engine.defragment()
    engine.close()
    found = text(registry)
    assert "etcd_disk_backend_defrag_duration_seconds_count 1\n" in found
    assert 'etcd_disk_backend_defrag_duration_seconds_bucket{le="409.6"} 1\n' in found
    assert "etcd_disk_defrag_inflight 0\n" in found


def test_grpc_types_are_those_of_the_protocol() -> None:
    """The metrics of every served method name the kind that its definition has."""
    served = [rpc.DESCRIPTOR, lock.DESCRIPTOR, election.DESCRIPTOR]
    for file in served:
        for service in file.services_by_name.values():
            for method in service.methods:
                streams = (method.client_streaming, method.server_streaming)
                expected = {(False, False): "unary", (False, True): "server_stream"}.get(streams, "bidi_stream")
                assert grpc_type(f"/{service.full_name}/{method.name}") == expected, method.full_name
    kinds = {path: grpc_type(path) for path in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")}
    assert kinds == {"/grpc.health.v1.Health/Check": "unary", "/grpc.health.v1.Health/Watch": "server_stream"}


def test_every_stream_that_is_served_has_a_grpc_type_of_streams() -> None:
    async def scenario(server: Server) -> None:
        for method in with_tools(server.api.methods, Health()):
            assert (grpc_type(method.path) == "unary") is (method.kind is Kind.UNARY), method.path

    run(scenario)


def test_the_store_counts_what_etcd_counts_of_its_log() -> None:
    async def scenario(server: Server) -> None:
        registry = Registry()
        store = server.node.store
        collect(registry, lambda: server_families(store, server.node.cluster), lambda: store_families(store, 0))
        await server.put(b"a")
        await server.put(b"b")
        found = text(registry)
        for line in (
            "etcd_server_is_learner 0",
            "etcd_server_proposals_committed_total 3",
            "etcd_server_proposals_applied_total 3",
            "etcd_server_proposals_pending 0",
            "etcd_debugging_mvcc_keys_total 2",
        ):
            assert line + "\n" in found, line
        server.client.start(KV + "Put", rpc.PutRequest(key=b"c"))
        assert "etcd_server_proposals_pending 1\n" in text(registry)

    run(scenario)


def test_a_replicated_node_reports_each_sample_once() -> None:
    async def scenario(server: Server) -> None:
        registry = Registry()
        store = server.node.store
        status = SimpleNamespace(followers=(), events_connected=True)
        node = SimpleNamespace(
            engine=SimpleNamespace(position=lambda: SimpleNamespace(seq=7, revision=1)),
            status=lambda: status,
            epoch=0,
            lag=float,
            election=SimpleNamespace(left=float),
            waiting_reads=0,
            gaps=0,
        )
        collect(
            registry,
            lambda: server_families(store, server.node.cluster, 3),
            lambda: store_families(store, 0),
            lambda: node_families(cast(HaNode, node)),
        )
        found = text(registry)
        assert repeated_samples(found) == []
        assert "etcd_server_proposals_pending 3\n" in found

    run(scenario)


def test_requests_are_counted_by_kind_and_failed_proposals() -> None:
    async def play() -> None:
        def refuse(data: bytes, call: Call) -> None:
            call.finish(Code.UNAVAILABLE, "etcdserver: request timed out")

        def end(call: Call) -> None:
            call.finish()

        methods = [Method(KV + "Put", Kind.UNARY, refuse), Method(WATCH, Kind.STREAM, end)]
        methods.append(Method(KV + "Range", Kind.UNARY, refuse))
        server = await serve({method.path: method for method in methods}, ListenerConfig())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports[0]}") as channel:
            for path in (KV + "Put", KV + "Range"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(path, bytes, bytes)(b"")
            async for _ in channel.stream_stream(WATCH)(iter(())):
                pass
        found = render(rpc_families(server)).decode()
        await server.close()
        assert 'etcd_server_client_requests_total{type="unary",client_api_version="unknown"} 2\n' in found
        assert 'etcd_server_client_requests_total{type="stream",client_api_version="unknown"} 1\n' in found
        assert "etcd_server_proposals_failed_total 1\n" in found

    asyncio.run(play())


def test_the_process_is_measured_too() -> None:
    registry = Registry()
    collect(registry)
    assert "process_resident_memory_bytes " in text(registry)
    used, limit = (text(registry).partition(f"\nos_fd_{name} ")[2].partition("\n")[0] for name in ("used", "limit"))
    assert 0 < int(used) < int(limit)
