"""What a proxy adds to a request's latency at a steady rate: each beside the same load without one, turn by turn.

The rate is far below what any of them can do, requests go out on time whatever has been answered, and no connection is
opened while it counts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.gateway.load import Latency, Load, at_a_rate
from benchmarks.gateway.subjects import LOOPBACK, Pki, running
from benchmarks.gateway.upstream import SMALL, static

DIRECT = "direct"
LOAD = Load(2, 50, 16, SMALL)  # fifty clients whose timers tick a hundred times a second
PER_SECOND = 5000
_SKIPPED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    subject: str
    latency: Latency
    cpu_share: float  # of its core, in percent


def measure(pki: Pki, subjects: Sequence[str], rounds: int, seconds: float) -> list[Run]:
    """Direct first in every round."""
    runs = []
    length = seconds + _SKIPPED_SECONDS
    with static(pki) as upstream:
        for _ in range(rounds):
            direct = at_a_rate(f"{LOOPBACK}:{upstream}", LOAD, PER_SECOND, length, _SKIPPED_SECONDS)
            runs.append(Run(DIRECT, direct, 0.0))
            for name in subjects:
                with running(name, pki, upstream) as server:
                    at_a_rate(server.endpoint, LOAD, PER_SECOND, 1.0, 0.0)
                    before = server.cpu_seconds()
                    found = at_a_rate(server.endpoint, LOAD, PER_SECOND, length, _SKIPPED_SECONDS)
                    runs.append(Run(name, found, (server.cpu_seconds() - before) / length * 100))
                    told = f"{name} at {PER_SECOND}/s: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms"
                    print(told, file=sys.stderr, flush=True)
    return runs


def table(runs: Sequence[Run]) -> str:
    """Medians over the rounds."""
    lines = ["| proxy | p50 ms | p99 ms | max ms | added p50 ms | added p99 ms | CPU % |", "|---" * 7 + "|"]
    direct = [run.latency for run in runs if run.subject == DIRECT]
    base50, base99 = median(one.p50 for one in direct), median(one.p99 for one in direct)
    for subject in dict.fromkeys(run.subject for run in runs):
        chosen = [run for run in runs if run.subject == subject]
        p50, p99 = median(run.latency.p50 for run in chosen), median(run.latency.p99 for run in chosen)
        worst = max(run.latency.worst for run in chosen)
        added = f"{p50 - base50:.2f} | {p99 - base99:.2f}" if subject != DIRECT else "|"
        busy = f"{median(run.cpu_share for run in chosen):.0f}" if subject != DIRECT else ""
        lines.append(f"| {subject} | {p50:.2f} | {p99:.2f} | {worst:.1f} | {added} | {busy} |")
    return "\n".join(lines)
