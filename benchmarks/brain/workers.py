"""How reads scale with `wharf brain --workers N`: linearizable gets of one key by h2load, whose requests cost next to
nothing, so that the server gets what the cores have left.

    python -m benchmarks.brain.workers [--workers 0,2] [--seconds 8] [--json FILE]

h2load cannot tell a gRPC refusal from an answer, so its count of bytes must be that of the value it asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import grpc
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

from benchmarks.brain.run import machine
from benchmarks.servers import Server, cpu_seconds, running, tree, version

KEY, VALUE = b"/registry/pods/default/one", b"v" * 512
CLIENTS, STREAMS = 64, 8
LINEARIZABLE, SERIALIZABLE = False, True


class NotAnsweredError(RuntimeError):
    """h2load got something else than values."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run. `cpu_us` is of all of brain's processes, by request; `each`: cores kept busy by each of them."""

    workers: int
    serializable: bool
    per_second: float
    mean_ms: float
    cpu_us: float
    each: tuple[float, ...]


def h2load(server: Server, serializable: bool, seconds: float) -> tuple[int, float]:
    """(requests answered, mean milliseconds)."""
    message = rpc.RangeRequest(key=KEY, serializable=serializable).SerializeToString()
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(message).to_bytes(4, "big") + message)
        body.flush()
        words = ["h2load", f"--clients={CLIENTS}", f"--max-concurrent-streams={STREAMS}", f"--duration={seconds:g}"]
        words += ["--header=content-type: application/grpc", "--header=te: trailers", f"--data={body.name}"]
        words.append(f"http://{server.endpoint}/etcdserverpb.KV/Range")
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    requests = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", told)
    size = re.search(r"\((\d+)\) data", told)
    mean = re.search(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", told, re.MULTILINE)
    if requests is None or size is None or mean is None:
        raise NotAnsweredError(f"h2load says something new:\n{told}")
    answered = int(requests[1])
    if requests[3] != "0" or int(size[1]) < answered * len(VALUE):
        raise NotAnsweredError(f"h2load got refusals:\n{told}")
    return answered, float(mean[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[mean[2]]


def measure(workers: int, seconds: float) -> list[Row]:
    """Both kinds of read on a fresh server."""
    rows = []
    with running("brain", (f"--workers={workers}",) if workers else ()) as server:
        with grpc.insecure_channel(server.endpoint) as channel:
            stubs.KVStub(channel).Put(rpc.PutRequest(key=KEY, value=VALUE))
        for serializable in (LINEARIZABLE, SERIALIZABLE):
            h2load(server, serializable, min(seconds, 2.0))  # warm
            members = tree(server.process.pid)
            before = [cpu_seconds(pid) for pid in members]
            answered, mean = h2load(server, serializable, seconds)
            used = [cpu_seconds(pid) - then for pid, then in zip(members, before, strict=True)]
            used[0] -= sum(used[1:])  # the parent's tree holds the others
            cores = tuple(round(one / seconds, 2) for one in used)
            rows.append(Row(workers, serializable, answered / seconds, mean, sum(used) / answered * 1e6, cores))
    return rows


def table(rows: Sequence[Row]) -> str:
    head = ("reads", "--workers", "gets/s", "mean ms", "server CPU µs/get", "cores busy: parent, workers", "ratio")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for kind in (LINEARIZABLE, SERIALIZABLE):
        ours = [row for row in rows if row.serializable is kind]
        counts = sorted({row.workers for row in ours})
        rates = {count: median(row.per_second for row in ours if row.workers == count) for count in counts}
        for count in counts:
            runs = [row for row in ours if row.workers == count]
            one = min(runs, key=lambda row: abs(row.per_second - rates[count]))
            cells = ["serializable" if kind else "linearizable", str(count), f"{one.per_second:.0f}"]
            cells += [f"{one.mean_ms:.2f}", f"{one.cpu_us:.1f}", " + ".join(map(str, one.each))]
            lines.append(f"| {' | '.join(cells)} | {rates[count] / rates[counts[0]]:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.brain.workers", description="reads by several processes")
    parser.add_argument("--workers", default="0,2", help="comma-separated numbers of them")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/workers.json"))
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for _ in range(options.rounds):
        for workers in map(int, options.workers.split(",")):
            rows += measure(workers, options.seconds)
            print(table(rows), file=sys.stderr, flush=True)
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "version": version("brain"), "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
