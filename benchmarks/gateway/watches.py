"""What watches cost: memory of those that are idle, and CPU and delay of an event that goes to many.

Ten watches on each client connection, as a node's kubelet and agents have; the upstream takes a hundred on each of its
own, as kube-apiserver does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gateway.subjects import LOOPBACK, Pki, running
from benchmarks.gateway.upstream import Stub, stub
from benchmarks.servers import Server

DIRECT = "direct"
STREAMS = 10  # watches on a client connection
EVENTS_PER_SECOND = 10  # to every watch


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory of watches that nothing happens on."""

    subject: str
    watches: int
    opened: float  # seconds until all had their head
    before: int  # bytes of RSS
    after: int
    cpu_ms: float  # by watch opened
    left: int  # upstream, after the clients had gone

    @property
    def each(self) -> float:
        return (self.after - self.before) / self.watches


@dataclass(frozen=True, slots=True)
class FanOut:
    """Events to every watch at a steady rate."""

    subject: str
    watches: int
    per_second: float
    missing: int
    p50: float  # milliseconds from when it was due
    p99: float
    cpu_us: float  # by event


def measure_idle(pki: Pki, subjects: Sequence[str], count: int) -> list[Idle]:
    """Every proxy with so many watches, once."""
    runs = []
    for name in subjects:
        with stub(pki) as ends, running(name, pki, ends.port) as server:
            ends.open(server.endpoint, 1, STREAMS)  # what the first requests leave behind is not the watches'
            ends.close()
            before, began = server.rss_bytes(), server.cpu_seconds()
            opened = ends.open(server.endpoint, count // STREAMS, STREAMS)
            after, cpu = server.rss_bytes(), server.cpu_seconds() - began
            run = Idle(name, count, opened, before, after, cpu / count * 1e3, ends.close())
            runs.append(run)
            print(f"{name}: {run.each / 1e3:.1f} kB for each of {count} idle watches", file=sys.stderr, flush=True)
    return runs


def measure_fan_out(pki: Pki, subjects: Sequence[str], count: int, seconds: float) -> list[FanOut]:
    """The same events to the same number of watches, direct and through every proxy."""
    with stub(pki) as ends:
        runs = [_fan_out(DIRECT, ends, f"{LOOPBACK}:{ends.port}", count, seconds, None)]
    for name in subjects:
        with stub(pki) as ends, running(name, pki, ends.port) as server:
            runs.append(_fan_out(name, ends, server.endpoint, count, seconds, server))
    return runs


def _fan_out(name: str, ends: Stub, endpoint: str, count: int, seconds: float, server: Server | None) -> FanOut:
    ends.open(endpoint, count // STREAMS, STREAMS)
    ends.emit(EVENTS_PER_SECOND, 1.0)
    before = server.cpu_seconds() if server else 0.0
    told = ends.emit(EVENTS_PER_SECOND, seconds)
    used = (server.cpu_seconds() if server else 0.0) - before
    ends.close()
    rate, missing, cpu = told["events"] / told["seconds"], int(told["missing"]), used / told["events"] * 1e6
    run = FanOut(name, count, rate, missing, told["p50_ms"], told["p99_ms"], cpu)
    print(f"{name}: {rate:.0f} events/s, p99 {run.p99:.1f} ms, {cpu:.1f} us of CPU each", file=sys.stderr, flush=True)
    return run


def table_idle(runs: Sequence[Idle]) -> str:
    lines = ["| proxy | watches | kB/watch | RSS MB | opened in s | CPU ms/watch | left upstream |", "|---" * 7 + "|"]
    for run in runs:
        cells = [run.subject, str(run.watches), f"{run.each / 1e3:.1f}", f"{run.after / 1e6:.0f}", f"{run.opened:.1f}"]
        lines.append(f"| {' | '.join([*cells, f'{run.cpu_ms:.2f}', str(run.left)])} |")
    return "\n".join(lines)


def table_fan_out(runs: Sequence[FanOut]) -> str:
    lines = ["| proxy | watches | events/s | p50 ms | p99 ms | CPU µs/event | missing |", "|---" * 7 + "|"]
    for run in runs:
        cells = [run.subject, str(run.watches), f"{run.per_second:.0f}", f"{run.p50:.2f}", f"{run.p99:.2f}"]
        cells += [f"{run.cpu_us:.1f}" if run.subject != DIRECT else "", str(run.missing)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
