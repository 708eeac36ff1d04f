"""brain beside kine on one PostgreSQL server: A B A B, a fresh database each, the load of benchmarks.brain.run.

    python -m benchmarks.brain.shared [--seconds 8] [--rounds 2] [--only create,get] [--json FILE]

CPU is told apart: the server that speaks etcd's protocol, and PostgreSQL under it. brain needs Redis too, which is idle
here: one lease is renewed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from harness.backing import Postgres, Redis
from wharf.cli.kube.controlplane import free_port

from benchmarks import loadgen
from benchmarks.brain.run import Case, fill, machine, measure
from benchmarks.loadgen import Measured
from benchmarks.servers import Server, cpu_seconds, running, version

PEERS = ("kine", "brain")
KEYS = 20_000
# kine holds two connections for a write and limits them by nothing; told a limit below that its writers wait for each
# other forever. So PostgreSQL gets room for all of them, and kine keeps them: by default it closes all but twenty and
# spends most of its time opening others.
POSTGRES = {"max_connections": "700"}
KINE = ("--datastore-max-idle-connections=700",)

CASES = (
    Case("create", "create", prefix=""),
    Case("create, 32 clients", "create", prefix="", clients=32),
    Case("create, one client", "create", prefix="", clients=1),
    Case("get", "get"),
    Case("update (get + txn)", "update"),
    Case("list, 500 keys a page", "list", clients=32),
    Case("delete", "delete", prefix="/registry/gone/", to_the_end=True),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One case on one server, and what PostgreSQL used for it."""

    measured: Measured
    postgres_us_per_op: float


@dataclass(frozen=True, slots=True)
class Row:
    """The runs of one case on one server."""

    case: str
    peer: str
    runs: tuple[Run, ...]

    def of(self, key: str) -> float:
        return median(float(run.measured.result[key]) for run in self.runs)

    @property
    def server_us(self) -> float:
        return median(run.measured.cpu_us_per_op for run in self.runs)

    @property
    def postgres_us(self) -> float:
        return median(run.postgres_us_per_op for run in self.runs)

    @property
    def errors(self) -> int:
        return sum(sum(run.measured.result["errors"].values()) for run in self.runs)


@contextmanager
def on_postgres(peer: str, postgres: Postgres, redis: Redis) -> Iterator[Server]:
    """A server on a database of its own, which is dropped afterwards."""
    database = postgres.new_database()
    url = postgres.url_of(database)
    if peer == "kine":
        flags = [f"--endpoint={url}", *KINE]
    else:
        control = f"http://127.0.0.1:{free_port()}"
        flags = [f"--engine={url}", f"--redis={redis.fresh()}"]
        flags += [f"--listen-peer-urls={control}", f"--initial-advertise-peer-urls={control}"]
    try:
        with running(peer, tuple(flags)) as server:
            yield server
    finally:
        postgres.sql(f"DROP DATABASE {database} WITH (FORCE)", database="postgres")


def run(program: Path, server: Server, postgres: Postgres, case: Case, seconds: float) -> Run:
    """One run, begun with PostgreSQL's dirty pages written so that it pays for its own writes only."""
    postgres.sql("CHECKPOINT", database="postgres")
    before = cpu_seconds(postgres.process.pid)
    measured = measure(program, server, case, seconds, KEYS)
    used = cpu_seconds(postgres.process.pid) - before
    return Run(measured, used / max(measured.result["all_ops"], 1) * 1e6)


def compare(cases: Sequence[Case], rounds: int, seconds: float) -> list[Row]:
    program = loadgen.build()
    runs: dict[tuple[str, str], list[Run]] = {}
    with Postgres(settings=POSTGRES) as postgres, Redis() as redis:
        for number in range(rounds):
            for peer in PEERS:
                with on_postgres(peer, postgres, redis) as server:
                    for prefix in sorted({case.prefix for case in cases} - {""}):
                        fill(program, server, prefix, KEYS, clients=64)
                    for case in cases:
                        one = run(program, server, postgres, case, seconds)
                        runs.setdefault((case.name, peer), []).append(one)
                        rate = one.measured.result["ops_per_second"]
                        spent = f"{one.measured.cpu_us_per_op:.0f} us + {one.postgres_us_per_op:.0f} us in PostgreSQL"
                        print(f"round {number + 1}/{rounds} {peer} {case.name}: {rate:.0f}/s, {spent}", file=sys.stderr)
    return [Row(case.name, peer, tuple(runs[case.name, peer])) for case in cases for peer in PEERS]


def table(rows: Sequence[Row]) -> str:
    head = ("load", "server", "ops/s", "p50 ms", "p99 ms", "server CPU µs/op", "PostgreSQL CPU µs/op", "ratio ops/s")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        peer = next(other for other in rows if other.case == row.case and other.peer == PEERS[0])
        rate, errors = row.of("ops_per_second"), f" ({row.errors} errors)" if row.errors else ""
        cells = [row.case, row.peer, f"{rate:.0f}{errors}", f"{row.of('p50_ms'):.2f}", f"{row.of('p99_ms'):.2f}"]
        cells += [f"{row.server_us:.0f}", f"{row.postgres_us:.0f}", f"{rate / peer.of('ops_per_second'):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.brain.shared", description="brain beside kine on PostgreSQL")
    parser.add_argument("--seconds", type=float, default=8.0, help="counted part of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="comma-separated operations")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/shared.json"))
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if not options.only or case.op in options.only.split(",")]
    rows = compare(cases, options.rounds, options.seconds)
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    versions = {peer: version(peer) for peer in PEERS}
    record = {"machine": machine(), "versions": versions, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
