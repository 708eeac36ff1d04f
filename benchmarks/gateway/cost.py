"""What one request costs: CPU of the proxy's processes by request, under a load that keeps it busy all the time.

Batched means many requests in one read, unbatched one request a read. Budgets are shares of nginx's cost in the same
run, which is steady where throughput on a shared machine is not; the rate is printed beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.gateway.load import Load, as_many_as_possible
from benchmarks.gateway.subjects import OURS, PEERS, Pki, running
from benchmarks.gateway.upstream import LARGE, SMALL, static

_WARM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `budget`: what `--check` allows the gateway, as a share of nginx's CPU by request."""

    name: str
    load: Load
    budget: float


CASES = (
    Case("h2, 1 kB, batched", Load(2, 4, 8, SMALL), 1.3),
    Case("h2, 1 kB, unbatched", Load(2, 32, 1, SMALL), 1.7),
    Case("h1, 1 kB, pipelined", Load(1, 4, 8, SMALL), 6.0),
    Case("h1, 1 kB, unbatched", Load(1, 32, 1, SMALL), 4.5),
    Case("h2, 1 MB", Load(2, 4, 2, LARGE), 1.4),
    Case("h1, 1 MB", Load(1, 8, 1, LARGE), 1.4),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One case on one proxy, once."""

    case: str
    subject: str
    per_second: float
    cpu_us: float  # by request
    rss: int  # bytes, afterwards


def measure(pki: Pki, cases: Sequence[Case], subjects: Sequence[str], rounds: int, seconds: float) -> list[Run]:
    """A B C D, A B C D: every proxy is started anew in each round and meets all cases."""
    runs = []
    with static(pki) as upstream:
        for _ in range(rounds):
            for name in subjects:
                with running(name, pki, upstream) as server:
                    for case in cases:
                        as_many_as_possible(server.endpoint, case.load, min(_WARM_SECONDS, seconds))
                        before = server.cpu_seconds()
                        answered = as_many_as_possible(server.endpoint, case.load, seconds)
                        cpu = (server.cpu_seconds() - before) / answered.requests * 1e6
                        run = Run(case.name, name, answered.requests / seconds, cpu, server.rss_bytes())
                        runs.append(run)
                        told = f"{case.name} through {name}: {run.per_second:.0f}/s, {cpu:.1f} us of CPU each"
                        print(told, file=sys.stderr, flush=True)
    return runs


def table(runs: Sequence[Run]) -> str:
    """Medians, and shares of nginx's."""
    lines = ["| load | proxy | requests/s | CPU µs/request | RSS MB | ratio requests/s | ratio CPU |", "|---" * 7 + "|"]
    for case, subject in dict.fromkeys((run.case, run.subject) for run in runs):
        rate, cpu = _medians(runs, case, subject)
        peer_rate, peer_cpu = _medians(runs, case, PEERS[0])
        rss = max(run.rss for run in runs if (run.case, run.subject) == (case, subject)) / 1e6
        ratios = f"{rate / peer_rate:.2f} | {cpu / peer_cpu:.2f}" if peer_rate else "|"
        lines.append(f"| {case} | {subject} | {rate:.0f} | {cpu:.1f} | {rss:.0f} | {ratios} |")
    return "\n".join(lines)


def over_budget(runs: Sequence[Run], cases: Sequence[Case]) -> list[str]:
    """One line for each case that costs the gateway more than it may."""
    found = []
    for case in cases:
        _, ours = _medians(runs, case.name, OURS)
        _, peer = _medians(runs, case.name, PEERS[0])
        if ours > case.budget * peer:
            found.append(f"{case.name}: {ours:.1f} us of CPU each, more than {case.budget} of nginx's {peer:.1f}")
    return found


def _medians(runs: Sequence[Run], case: str, subject: str) -> tuple[float, float]:
    chosen = [run for run in runs if (run.case, run.subject) == (case, subject)]
    if not chosen:
        return 0.0, 0.0
    return median(run.per_second for run in chosen), median(run.cpu_us for run in chosen)
