"""Metrics are found under etcd's names."""

from __future__ import annotations

import asyncio

from brain.api.fakes import FakeCall
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch
from wharf.brain.measured import measured
from wharf.brain.metrics import EventMetrics, HandlingTimes, HealthMetrics, collect
from wharf.common.clock import FakeClock
from wharf.common.metrics import Registry, render


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
    labels = 'grpc_method="Range",grpc_service="etcdserverpb.KV"'
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


def test_the_process_is_measured_too() -> None:
    registry = Registry()
    collect(registry)
    assert "process_resident_memory_bytes " in text(registry)
