"""How long nobody can write when a replicated brain loses its leader, and when it hands over in order.

    python -m benchmarks.brain.failover [--times 20] [--lease-ms 3000] [--only kill,terminate,step-down] [--json FILE]

Three nodes on PostgreSQL, Redis and NATS on this machine; writers on every node retry at once. Counted is the longest
time in which no write was acknowledged to anybody, from the signal (or the request to step down) until a second after
there is a new leader. A leader that goes in order serves on until it has handed over, so the first acknowledgement
after the signal would tell nothing.
"""

from __future__ import annotations

import argparse
import itertools
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
_AROUND_SECONDS = 1.0  # of ordinary service before and after each end
_CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Writer(threading.Thread):
    """Puts one after the other on one node; tells when each was acknowledged."""

    def __init__(self, node: BrainNode, key: str, told: Callable[[float], None]) -> None:
        super().__init__(name=f"writer of {node.name}")
        self._address, self._key, self._told = node.address, key.encode(), told
        self._over = threading.Event()

    def run(self) -> None:
        with grpc.insecure_channel(self._address, _CHANNEL) as channel:
            kv = stubs.KVStub(channel)
            while not self._over.is_set():
                try:
                    kv.Put(rpc.PutRequest(key=self._key, value=b"v"), timeout=_CALL_SECONDS)
                except grpc.RpcError:
                    self._over.wait(_RETRY_SECONDS)
                else:
                    self._told(time.monotonic())

    def end(self) -> None:
        self._over.set()


def longest_gap(times: Sequence[float], since: float, until: float) -> float:
    """Seconds of the longest time between `since` and `until` in which none of `times` is."""
    edges = [since, *sorted(one for one in times if since <= one <= until), until]
    return max(after - before for before, after in itertools.pairwise(edges))


def kill(cluster: BrainCluster, leader: BrainNode) -> None:
    cluster.kill(leader)


def terminate(cluster: BrainCluster, leader: BrainNode) -> None:
    cluster.stop_node(leader)


def step_down(cluster: BrainCluster, leader: BrainNode) -> None:
    words = [str(Path(sys.prefix) / "bin" / "wharf"), "brain", "step-down"]
    words.append(f"--endpoint=http://127.0.0.1:{leader.control_port}")
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


WAYS: dict[str, Callable[[BrainCluster, BrainNode], None]] = {
    "kill": kill,
    "terminate": terminate,
    "step-down": step_down,
}


def run(cluster: BrainCluster, way: str, times: int) -> list[float]:
    """Seconds without writes of each end of a leader."""
    acknowledged: list[float] = []
    writers = [
        Writer(node, f"failover/{node.name}/{number}", acknowledged.append)
        for node in cluster.nodes
        for number in range(WRITERS_PER_NODE)
    ]
    for writer in writers:
        writer.start()
    try:
        found = []
        for _ in range(times):
            leader = cluster.wait_leader()
            time.sleep(_AROUND_SECONDS)
            acknowledged.clear()
            since = time.monotonic()
            WAYS[way](cluster, leader)
            cluster.wait_leader(other_than=leader)
            time.sleep(_AROUND_SECONDS)
            found.append(longest_gap(list(acknowledged), since, time.monotonic()))
            if way != "step-down":
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
    lines = [f"lease {lease_ms} ms; longest time without an acknowledged write, in milliseconds", ""]
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
