"""`python -m benchmarks.gateway` prints the tables; `--check` only compares the cost of a request with its budget.

python -m benchmarks.gateway [--only cost,latency,idle,fanout] [--subjects nginx,wharf] [--seconds 4] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.brain.run import machine
from benchmarks.gateway import cost, envoy, latency, watches
from benchmarks.gateway.subjects import OURS, PEERS, Pki

PARTS = ("cost", "latency", "idle", "fanout")


def versions(subjects: Sequence[str]) -> dict[str, str]:
    from importlib.metadata import version as installed  # noqa: PLC0415 - only wharf's own environment has it

    told = {}
    for name, words in (
        ("nginx", ("nginx", "-v")),
        ("haproxy", ("haproxy", "-v")),
        ("h2load", ("h2load", "--version")),
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        told[name] = found[0] if found else "unknown"
    told["envoy"] = envoy.version()
    told[OURS] = installed("wharf-gateway")
    return {name: told[name] for name in (*subjects, "h2load")}


def run(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    """What was measured, by part, and what costs too much; tables go to stdout as they come."""
    subjects = options.subjects.split(",")
    cases = [case for case in cost.CASES if re.search(options.cases, case.name)]
    found: dict[str, object] = {"machine": machine(), "versions": versions(subjects)}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-pki-") as folder:
        pki = Pki(Path(folder))
        for part in options.only.split(","):
            if part == "cost":
                costs = cost.measure(pki, cases, subjects, options.rounds, options.seconds)
                wrong = cost.over_budget(costs, cases) if options.check else []
                text, rows = cost.table(costs), [asdict(one) for one in costs]
            elif part == "latency":
                delays = latency.measure(pki, subjects, options.rounds, options.seconds)
                text, rows = latency.table(delays), [asdict(one) for one in delays]
            elif part == "idle":
                idle = watches.measure_idle(pki, subjects, options.idle_watches)
                text, rows = watches.table_idle(idle), [asdict(one) for one in idle]
            else:
                events = watches.measure_fan_out(pki, subjects, options.watchers, options.seconds)
                text, rows = watches.table_fan_out(events), [asdict(one) for one in events]
            print(f"\n{part}\n\n{text}", flush=True)
            found[part] = rows
    return found, wrong


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gateway", description="the gateway beside its peers")
    parser.add_argument("--only", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--subjects", default=",".join((*PEERS, OURS)))
    parser.add_argument("--cases", default="", help="of cost: those whose name matches this expression")
    parser.add_argument("--seconds", type=float, default=4.0, help="counted part of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--idle-watches", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/gateway.json"))
    parser.add_argument("--check", action="store_true", help="short runs; fail when a request costs too much CPU")
    options = parser.parse_args(arguments)
    if options.check:
        options.only, options.subjects = "cost", f"{PEERS[0]},{OURS}"
        options.seconds, options.rounds = min(options.seconds, 3.0), 1
    found, wrong = run(options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1))
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
