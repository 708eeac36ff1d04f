"""How long nobody can write when a replicated brain loses its leader, and when it hands over in order.

    python -m benchmarks.brain.failover [--times 20] [--lease-ms 3000] [--only kill,terminate,step-down] [--json FILE]

Three nodes on PostgreSQL, Redis and NATS on this machine; writers on every node retry at once. Counted is the time from
the signal (or the request to step down) to the first acknowledgement of a write that was sent after it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import grpc
from harness.nodes import BrainCluster, BrainNode
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

WRITERS_PER_NODE = 2
_RETRY_SECONDS = 0.005
_CALL_SECONDS = 10.0
_BETWEEN_SECONDS = 1.0  # of ordinary service before each end
_MOST_SECONDS = 60.0
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Writer(threading.Thread):
    """Puts one after the other on one node; tells whoever waits of each that is acknowledged."""

    def __init__(self, node: BrainNode, key: str, told: Callable[[float, float], None]) -> None:
        super().__init__(name=f"writer of {node.name}")
        self._address, self._key, self._told = node.address, key.encode(), told
        self._over = threading.Event()

    def run(self) -> None:
        with grpc.insecure_channel(self._address, _CHANNEL) as channel:
            kv = stubs.KVStub(channel)
            while not self._over.is_set():
                called = time.monotonic()
                try:
                    kv.Put(rpc.PutRequest(key=self._key, value=b"%r" % called), timeout=_CALL_SECONDS)
                except grpc.RpcError:
                    self._over.wait(_RETRY_SECONDS)
                else:
                    self._told(called, time.monotonic())

    def end(self) -> None:
        self._over.set()


class FirstWrite:
    """The first acknowledgement of a write that was sent after `since`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._since, self._at = float("inf"), 0.0

    def told(self, called: float, returned: float) -> None:
        with self._changed:
            if called >= self._since and not self._at:
                self._at = returned
                self._changed.notify_all()

    def measure(self, end_leader: Callable[[], None]) -> float:
        """Seconds from before `end_leader` was called."""
        with self._changed:
            self._since, self._at = time.monotonic(), 0.0
        end_leader()
        with self._changed:
            if not self._changed.wait_for(lambda: self._at > 0, _MOST_SECONDS):
                raise TimeoutError(f"nobody could write for {_MOST_SECONDS} s")
            return self._at - self._since


def kill(cluster: BrainCluster, leader: BrainNode) -> None:
    cluster.kill(leader)


def terminate(cluster: BrainCluster, leader: BrainNode) -> None:
    threading.Thread(target=cluster.stop_node, args=(leader,)).start()


def step_down(cluster: BrainCluster, leader: BrainNode) -> None:
    words = [str(Path(sys.prefix) / "bin" / "wharf"), "brain", "step-down"]
    words.append(f"--endpoint=http://127.0.0.1:{leader.control_port}")
    threading.Thread(target=subprocess.run, args=(words,), kwargs={"check": True}).start()


WAYS: dict[str, Callable[[BrainCluster, BrainNode], None]] = {
    "kill": kill,
    "terminate": terminate,
    "step-down": step_down,
}


def run(cluster: BrainCluster, way: str, times: int) -> list[float]:
    """Seconds without writes of each end of a leader."""
    first = FirstWrite()
    writers = [
        Writer(node, f"failover/{node.name}/{number}", first.told)
        for node in cluster.nodes
        for number in range(WRITERS_PER_NODE)
    ]
    for writer in writers:
        writer.start()
    try:
        found = []
        for _ in range(times):
            leader = cluster.wait_leader()
            time.sleep(_BETWEEN_SECONDS)
            found.append(first.measure(lambda leader=leader: WAYS[way](cluster, leader)))  # type: ignore[misc]
            cluster.wait_leader(other_than=leader)
            if way != "step-down":
                while leader.process.running:
                    time.sleep(_RETRY_SECONDS)
                cluster.start_node(leader)
            print(f"{way} {len(found)}: {found[-1] * 1000:.0f} ms", file=sys.stderr, flush=True)
        return found
    finally:
        for writer in writers:
            writer.end()
        for writer in writers:
            writer.join()


def table(results: dict[str, list[float]], lease_ms: int) -> str:
    """What people read."""
    lines = [f"lease {lease_ms} ms; milliseconds from the leader's end to the first acknowledged write", ""]
    lines += ["| how it ends | times | p50 | max |", "|---|---|---|---|"]
    lines += [
        f"| {way} | {len(found)} | {median(found) * 1000:.0f} | {max(found) * 1000:.0f} |"
        for way, found in results.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=20, help="ends of a leader per way")
    parser.add_argument("--lease-ms", type=int, default=3000, help="the nodes' --election-timeout")
    parser.add_argument("--only", default=",".join(WAYS), help="which ways, by comma")
    parser.add_argument("--json", type=Path, help="write all figures there")
    told = parser.parse_args(arguments)
    results = {}
    with (
        tempfile.TemporaryDirectory(prefix="failover-") as folder,
        BrainCluster(Path(folder), lease_ms=told.lease_ms) as cluster,
    ):
        for way in told.only.split(","):
            results[way] = run(cluster, way, told.times)
    print(table(results, told.lease_ms))
    if told.json:
        told.json.write_text(json.dumps({"lease_ms": told.lease_ms, "seconds": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
