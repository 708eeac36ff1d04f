"""Ends and pauses of the process under load: SIGTERM, SIGSTOP, and what leases make of time without a server."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults.history import History, Writer
from faults.kit import CALL_SECONDS, Client, address, brain
from harness.store import Store
from wharf.common.pb.etcd import rpc_pb2 as rpc

WRITERS = 4


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    history = History()
    with brain(tmp_path) as store:
        for turn in range(3):
            enough = threading.Semaphore(0)
            writers = [
                Writer(f"w{number}", address(store), turn * WRITERS + number, set(history.live), enough.release)
                for number in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            for _ in range(60):
                assert enough.acquire(timeout=CALL_SECONDS), [writer.failure for writer in writers]
            code = store.process.stop(timeout=60)
            for writer in writers:
                writer.join()
                assert writer.failure is None, writer.failure
            assert code == 0
            store.start()
            with Client(address(store)) as client:
                history.judge(client, [attempt for writer in writers for attempt in writer.attempts])
        assert history.acknowledged >= 180


def remaining(client: Client, lease: int) -> int:
    """Seconds left; -1 when it is gone."""
    return client.lease.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=lease), timeout=CALL_SECONDS).TTL


def grant(client: Client, ttl: int) -> int:
    return client.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=ttl), timeout=CALL_SECONDS).ID


def test_a_stopped_process_is_a_pause_to_its_clients(tmp_path: Path) -> None:
    with brain(tmp_path) as store, Client(address(store)) as client, ThreadPoolExecutor(1) as pool:
        granted_at = time.monotonic()
        lease = grant(client, 60)
        client.put(b"leased", b"v", lease)
        create = rpc.WatchCreateRequest(key=b"k")
        watch = client.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=10 * CALL_SECONDS)
        assert next(watch).created
        store.process.send_signal(signal.SIGSTOP)
        try:
            put = pool.submit(client.put, b"k", b"v")
            time.sleep(3)  # the pause itself: what is tested
            assert not put.done()
        finally:
            store.process.send_signal(signal.SIGCONT)
        assert put.result(CALL_SECONDS) == 3
        assert next(watch).events[0].kv.key == b"k"
        watch.cancel()
        left = remaining(client, lease)
        assert 60 - (time.monotonic() - granted_at) - 1 <= left <= 60 - 3
        assert client.get(b"leased") is not None


def test_a_lease_outlives_a_dead_server_and_is_not_cut(tmp_path: Path) -> None:
    with brain(tmp_path) as store:
        with Client(address(store)) as client:
            granted_at = time.monotonic()
            short, long = grant(client, 2), grant(client, 100)
            client.put(b"short", b"v", short)
            client.put(b"long", b"v", long)
        store.kill()
        time.sleep(2.5)  # longer than the short lease lives: nobody could have renewed it
        store.start()
        with Client(address(store)) as client:
            left = remaining(client, long)
            assert 100 - (time.monotonic() - granted_at) - 1 <= left <= 100
            wait_gone(client, b"short")
            assert client.get(b"long") is not None


def test_restarts_do_not_keep_a_lease_alive_for_ever(tmp_path: Path) -> None:
    ttl, served = 6, 2
    with brain(tmp_path) as store:
        with Client(address(store)) as client:
            granted_at = time.monotonic()
            lease = grant(client, ttl)
            client.put(b"leased", b"v", lease)
        for _ in range(ttl + 1):  # each turn is served at least one second that counts
            if not serve_some(store, lease, served):
                break
        else:
            raise AssertionError("the lease lives on")
        assert time.monotonic() - granted_at >= ttl, "it died early"
        with Client(address(store)) as client:
            assert client.get(b"leased") is None


def serve_some(store: Store, lease: int, seconds: int) -> bool:
    """Serve until the lease has aged so much, then kill and start again; False when the lease is gone."""
    with Client(address(store)) as client:
        first = remaining(client, lease)
        while (left := remaining(client, lease)) > first - seconds:
            if left < 0:
                return False
            time.sleep(0.05)
        if left < 0:
            return False
    store.kill()
    store.start()
    return True


def wait_gone(client: Client, key: bytes) -> None:
    """Return when `key` is deleted, by watching it."""
    answer = client.kv.Range(rpc.RangeRequest(key=key), timeout=CALL_SECONDS)
    if not answer.kvs:
        return
    create = rpc.WatchCreateRequest(key=key, start_revision=answer.header.revision + 1)
    watch = client.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=CALL_SECONDS)
    for response in watch:
        if response.events:
            assert response.events[0].type
            break
    watch.cancel()
