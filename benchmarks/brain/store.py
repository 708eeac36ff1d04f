"""What the store costs the loop thread, without any wire: requests in bytes in, responses in bytes out, over LMDB
with fsync.

    python -m benchmarks.brain.store --operations 30000 --watchers 1000 --rate 1000

First creates, updates and deletes of kube-apiserver's shapes by 300 callers in a closed loop, point reads and pages;
then writes at a fixed rate with and without watchers that all watch them, whose streams take everything at once.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import uvloop
from wharf.brain.engine import open_engine
from wharf.brain.errors import BrainError
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.common.pb.etcd import rpc_pb2 as rpc

CALLERS = 300
PREFIX, END = b"/registry/leases/", b"/registry/leases0"


def key_of(number: int) -> bytes:
    return b"%bnamespace-%03d/%038d" % (PREFIX, number % 200, number)


def txn(number: int, revision: int, value: bytes | None) -> bytes:
    """If the key is at `revision`: put `value`, or delete for None; else read."""
    request, key = rpc.TxnRequest(), key_of(number)
    compare = request.compare.add(key=key, mod_revision=revision)
    compare.target = rpc.Compare.MOD
    if value is None:
        request.success.add().request_delete_range.key = key
    else:
        request.success.add().request_put.MergeFrom(rpc.PutRequest(key=key, value=value))
    request.failure.add().request_range.key = key
    return request.SerializeToString()


def refuse(error: BrainError) -> None:
    raise error


class Cost(NamedTuple):
    cpu: float  # microseconds of the loop thread per operation
    rate: float  # operations a second


async def closed_loop(store: Store, requests: Iterable[bytes], count: int) -> Cost:
    waiting, left = iter(requests), count
    finished = asyncio.Event()

    def reply(_: bytes) -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()
        ask()

    def ask() -> None:
        request = next(waiting, None)
        if request is not None:
            store.submit_fast(request, reply, refuse)

    cpu, began = time.thread_time(), time.perf_counter()
    for _ in range(CALLERS):
        ask()
    await finished.wait()
    return Cost((time.thread_time() - cpu) / count * 1e6, count / (time.perf_counter() - began))


def timed(call: Callable[[], object], times: int) -> Cost:
    cpu = time.thread_time()
    for _ in range(times):
        call()
    spent = time.thread_time() - cpu
    return Cost(spent / times * 1e6, times / spent)


async def operations(store: Store, count: int) -> None:
    first = store.revision + 1
    creates = [txn(number, 0, b"v" * 512) for number in range(count)]
    updates = [txn(number, first + number, b"w" * 512) for number in range(count)]
    deletes = [txn(number, first + count + number, None) for number in range(count // 2)]
    for name, requests in (("create", creates), ("update", updates), ("delete", deletes)):
        show(name, await closed_loop(store, requests, len(requests)))
    point = rpc.RangeRequest(key=key_of(count - 1)).SerializeToString()
    page = rpc.RangeRequest(key=PREFIX, range_end=END, limit=500).SerializeToString()
    show("get", timed(lambda: store.range_fast(point), 100_000))
    show("page of 500", timed(lambda: store.range_fast(page), 1_000))


def show(name: str, cost: Cost) -> None:
    print(f"{name:12} {cost.cpu:8.2f} us/op {cost.rate:10.0f} op/s")


async def fan_out(store: Store, offset: int, watchers: int, rate: int, seconds: float) -> None:
    """Writes at `rate`: how late they are answered, what the loop spends."""
    hub, sent, late = Hub(store), 0, list[float]()

    def take(_: bytes) -> None:
        nonlocal sent
        sent += 1

    for _ in range(watchers):
        hub.open_stream(take, lambda: True).create(WatchSpec(PREFIX, END, prev_kv=True))
    count = int(rate * seconds)
    requests = [txn(offset + number, 0, b"v" * 512) for number in range(count)]
    finished = asyncio.Event()

    def ask(request: bytes, due: float) -> None:
        def reply(_: bytes) -> None:
            late.append(time.perf_counter() - due)
            if len(late) == count:
                finished.set()

        store.submit_fast(request, reply, refuse)

    cpu, began, asked = time.thread_time(), time.perf_counter(), 0
    while asked < count:
        due = int((time.perf_counter() - began) * rate)
        for number in range(asked, min(due, count)):
            ask(requests[number], began + number / rate)
        asked = max(asked, min(due, count))
        await asyncio.sleep(0.001)
    await finished.wait()
    hub.flush()
    share = (time.thread_time() - cpu) / (time.perf_counter() - began)
    hub.close()
    late.sort()
    p50, p99 = late[count // 2] * 1e3, late[count * 99 // 100] * 1e3
    print(f"{watchers} watchers, {rate} writes/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {share:.0%} of the loop")
    print(f"    {sent - watchers} responses carried {hub.events_sent} events")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=30_000)
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        engine = open_engine(f"lmdb://{directory}")
        store = Store(engine)
        await store.start()
        await operations(store, options.operations)
        for turn, watchers in enumerate((0, options.watchers)):
            await fan_out(store, (turn + 1) * 10**9, watchers, options.rate, options.seconds)
        await store.stop()
        engine.close()


if __name__ == "__main__":
    uvloop.run(main())
