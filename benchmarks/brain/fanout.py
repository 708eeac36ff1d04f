"""What a thousand watchers cost the writers: brain beside etcd, writes at a fixed rate with and without them.

    python -m benchmarks.brain.fanout [--watchers 1000] [--seconds 10] [--json FILE]

Two shapes: every watcher has a key of its own (a node's pods, a lease), so that a write is delivered once; and every
watcher has everything, so that a write is delivered to all. Latency counts from when a write was due, so that a stall
shows in all the writes it held up. Watchers cost the load generator little: it counts messages by their framing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import loadgen
from benchmarks.brain.run import machine
from benchmarks.loadgen import Measured
from benchmarks.servers import PEERS, running, version

PREFIX = "/registry/leases/"
CLIENTS, CONNECTIONS = 32, 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Writes a second, and who watches what."""

    name: str
    rate: int
    own: bool


SHAPES = (Shape("each its own key", 1000, True), Shape("each everything", 50, False))


@dataclass(frozen=True, slots=True)
class Row:
    """One shape on one server with so many watchers."""

    shape: Shape
    peer: str
    watchers: int
    run: Measured


def measure(program: Path, peer: str, shape: Shape, counts: Sequence[int], seconds: float) -> list[Row]:
    """A fresh server; memory is what it is after each number of watchers."""
    rows = []
    with running(peer) as server:
        flags: dict[str, object] = {"prefix": PREFIX, "keys": max(counts), "clients": CLIENTS, "conns": CONNECTIONS}
        loadgen.run(program, server, "fill", **flags, duration="600s", warmup="0s")
        flags |= {"rate": shape.rate, "own": str(shape.own).lower(), "duration": f"{seconds}s", "warmup": "2s"}
        for count in counts:
            rows.append(Row(shape, peer, count, loadgen.run(program, server, "fanout", **flags, watchers=count)))
    return rows


def table(rows: Sequence[Row]) -> str:
    head = ["watchers", "server", "writes/s", "write p50 ms", "write p99 ms"]
    head += ["events/s", "event p50 ms", "event p99 ms", "missing", "server CPU %", "RSS MB"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        result, events = row.run.result, row.run.result["events"]
        who = f"{row.watchers}, {row.shape.name}" if row.watchers else "none"
        cells = [who, row.peer, f"{result['ops_per_second']:.0f}", f"{result['p50_ms']:.1f}", f"{result['p99_ms']:.1f}"]
        cells += [f"{events['events_per_second']:.0f}", f"{events['p50_ms']:.1f}", f"{events['p99_ms']:.1f}"]
        busy = row.run.cpu_us_per_op * result["ops_per_second"] / 1e4
        cells += [str(events["missing"]), f"{busy:.0f}", f"{row.run.rss_bytes / 1e6:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.brain.fanout", description="writes under many watchers")
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/fanout.json"))
    options = parser.parse_args(arguments)
    program = loadgen.build()
    rows: list[Row] = []
    for shape in SHAPES:
        for peer in PEERS:
            rows += measure(program, peer, shape, (0, options.watchers), options.seconds)
            print(table(rows[-2:]), file=sys.stderr, flush=True)
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    versions = {peer: version(peer) for peer in PEERS}
    record = {"machine": machine(), "versions": versions, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
