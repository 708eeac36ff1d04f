"""brain beside etcd: the same load on each in turn (A B A B), fresh directories, one table and one JSON file.

    python -m benchmarks [--seconds 8] [--rounds 2] [--only create,get] [--json FILE] [--check]

`--check` is the gate for CI: short runs, and it only looks at the server's CPU per operation relative to etcd's in the
same run, which is steady where throughput on a shared machine is not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import loadgen
from benchmarks.loadgen import Measured
from benchmarks.servers import PEERS, Server, running, version

CLIENTS, CONNECTIONS = 300, 8
KEYS = 50_000


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `budget`: the share of etcd's CPU per operation that `--check` allows brain; generous."""

    name: str
    op: str
    prefix: str = "/registry/bench/"  # of the keys it needs; empty: none
    clients: int = CLIENTS
    budget: float | None = None
    to_the_end: bool = False  # the load ends by itself, with the keys


CASES = (
    Case("create", "create", prefix="", budget=0.6),
    Case("get", "get", budget=0.5),
    Case("update (get + txn)", "update", budget=0.7),
    Case("list, 500 keys a page", "list", clients=32, budget=1.0),
    Case("update under 100 watchers", "watch", clients=32),
    Case("delete", "delete", prefix="/registry/gone/", budget=0.8, to_the_end=True),
)


@dataclass(frozen=True, slots=True)
class Row:
    """The runs of one case on one server."""

    case: str
    peer: str
    runs: tuple[Measured, ...]

    def of(self, key: str) -> float:
        return median(float(run.result[key]) for run in self.runs)

    @property
    def cpu(self) -> float:
        return median(run.cpu_us_per_op for run in self.runs)

    @property
    def errors(self) -> int:
        return sum(sum(run.result["errors"].values()) for run in self.runs)


def measure(program: Path, server: Server, case: Case, seconds: float, keys: int = KEYS) -> Measured:
    length = 600.0 if case.to_the_end else seconds
    warm_up = 0.0 if case.to_the_end else min(2.0, seconds / 3)
    flags: dict[str, object] = {"prefix": case.prefix} if case.prefix else {}
    flags |= {"clients": case.clients, "conns": min(CONNECTIONS, case.clients), "keys": keys}
    return loadgen.run(program, server, case.op, **flags, duration=f"{length}s", warmup=f"{warm_up}s")


def fill(program: Path, server: Server, prefix: str, keys: int = KEYS, clients: int = CLIENTS) -> None:
    loadgen.run(program, server, "fill", prefix=prefix, keys=keys, clients=clients, duration="600s", warmup="0s")


def compare(cases: Sequence[Case], rounds: int, seconds: float) -> list[Row]:
    program = loadgen.build()
    runs: dict[tuple[str, str], list[Measured]] = {}
    for round_number in range(rounds):
        for peer in PEERS:
            with running(peer) as server:
                filled = {""}
                for case in cases:
                    if case.prefix not in filled:
                        fill(program, server, case.prefix)
                        filled.add(case.prefix)
                    got = measure(program, server, case, seconds)
                    runs.setdefault((case.name, peer), []).append(got)
                    progress = (
                        f"round {round_number + 1}/{rounds} {peer} {case.name}: {got.result['ops_per_second']:.0f}/s"
                    )
                    print(f"{progress}, {got.cpu_us_per_op:.1f} us of server CPU each", file=sys.stderr, flush=True)
    return [Row(case.name, peer, tuple(runs[case.name, peer])) for case in cases for peer in PEERS]


def table(rows: Sequence[Row]) -> str:
    lines = ["| load | server | ops/s | p50 ms | p99 ms | server CPU µs/op | RSS MB | ratio ops/s | ratio CPU |"]
    lines.append("|---" * 9 + "|")
    for row in rows:
        peer = next(other for other in rows if other.case == row.case and other.peer == PEERS[0])
        rate, cpu = row.of("ops_per_second"), row.cpu
        ratios = f"{rate / peer.of('ops_per_second'):.2f} | {cpu / peer.cpu:.2f}" if row is not peer else "1 | 1"
        rss = max(run.rss_bytes for run in row.runs) / 1e6
        errors = f" ({row.errors} errors)" if row.errors else ""
        latency = f"{row.of('p50_ms'):.2f} | {row.of('p99_ms'):.2f}"
        lines.append(f"| {row.case} | {row.peer} | {rate:.0f}{errors} | {latency} | {cpu:.1f} | {rss:.0f} | {ratios} |")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "unknown"
    )
    return {"cpus": os.cpu_count(), "model": model, "kernel": platform.release(), "load": os.getloadavg()}


def over_budget(rows: Sequence[Row], cases: Sequence[Case]) -> list[str]:
    """One line per case that costs more than it may, or that failed."""
    found = [f"{row.case} on {row.peer}: {row.errors} errors" for row in rows if row.errors]
    for case in cases:
        etcd, brain = (next(r for r in rows if r.case == case.name and r.peer == peer) for peer in PEERS)
        if case.budget is not None and brain.cpu > case.budget * etcd.cpu:
            found.append(
                f"{case.name}: {brain.cpu:.1f} us of CPU each, more than {case.budget} of etcd's {etcd.cpu:.1f}"
            )
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description="brain beside etcd")
    parser.add_argument("--seconds", type=float, default=8.0, help="counted part of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="comma-separated operations")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/brain.json"))
    parser.add_argument(
        "--check", action="store_true", help="short runs; fail when an operation costs more than its budget"
    )
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if not options.only or case.op in options.only.split(",")]
    if options.check:
        cases = [case for case in cases if case.budget is not None]
        options.seconds, options.rounds = min(options.seconds, 4.0), 1
    rows = compare(cases, options.rounds, options.seconds)
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": machine(),
        "versions": {peer: version(peer) for peer in PEERS},
        "rows": [asdict(row) for row in rows],
    }
    options.json.write_text(json.dumps(record, indent=1))
    wrong = over_budget(rows, cases) if options.check else []
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0
