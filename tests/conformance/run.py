"""`make conformance`: Kubernetes' conformance tests directly, and through the gateway, and what differs.

    python -m conformance.run --sig sig-cli,sig-api-machinery --through both

It runs in a network namespace of its own, so that routes to pods touch nothing of the machine and everything that was
listening is gone at the end. Exit code 0: no test that passes directly fails through the gateway.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.sandbox import missing_requirements
from wharf.cli.kube.build import build
from wharf.cli.kube.recipes import CONFORMANCE, CONTROL_PLANE, NODE

from conformance.images import write_images
from conformance.report import Outcome, compare, read, summary, table, verdict
from conformance.world import World, world

REPORTS = Path(__file__).resolve().parents[2] / "build" / "reports" / "conformance"
WAYS = {"direct": ("direct",), "gateway": ("gateway",), "both": ("direct", "gateway")}
_HEARTBEAT_S = 30.0
_INSIDE = "WHARF_CONFORMANCE_INSIDE"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to run."""

    sigs: tuple[str, ...]
    ways: tuple[str, ...]
    focus: str  # a regular expression for names; empty: all conformance tests of `sigs`
    skip: str
    procs: int
    limit: str  # of one way, in Go's words: "2h"

    @property
    def pattern(self) -> str:
        """Ginkgo's --focus."""
        sigs = "|".join(map(re.escape, self.sigs))
        return rf"\[({sigs})\].*(?:{self.focus}).*\[Conformance\]"


def wish(arguments: list[str]) -> Wish:
    """From the command line."""
    parser = argparse.ArgumentParser(description="Kubernetes' conformance tests, directly and through the gateway.")
    parser.add_argument("--sig", default="sig-cli,sig-api-machinery", help="groups of tests, by comma")
    parser.add_argument("--through", choices=[*WAYS], default="both")
    parser.add_argument("--focus", default="", help="a regular expression that names must match besides")
    parser.add_argument("--skip", default="", help="a regular expression for names to leave out")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--limit", default="2h", help="time for one way")
    told = parser.parse_args(arguments)
    return Wish(tuple(told.sig.split(",")), WAYS[told.through], told.focus, told.skip, told.procs, told.limit)


def run_way(way: str, asked: Wish, programs: dict[str, Path]) -> dict[str, Outcome]:
    """Start a cluster, run the tests, keep logs and reports, end it all."""
    folder = REPORTS / way
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="wharf-conf-", ignore_cleanup_errors=True) as scratch:
        say(f"{way}: starting brain, a control plane and a node")
        with world(Path(scratch), programs["coredns"], through=way == "gateway") as ground:
            try:
                for archive in write_images(programs, Path(scratch)):
                    ground.node.import_images(archive)
                run_tests(way, ground, asked, programs, folder)
            finally:
                ground.keep_logs(folder / "logs")
    report = folder / "junit.xml"
    outcomes = read(report.read_text()) if report.exists() else {}
    say(summary(way, outcomes))
    return outcomes


def run_tests(way: str, ground: World, asked: Wish, programs: dict[str, Path], folder: Path) -> None:
    """Ginkgo with everything it is told; its words go to a file, a line now and then to whoever waits."""
    words = [
        *(programs["ginkgo"], f"--procs={asked.procs}", f"--focus={asked.pattern}", f"--timeout={asked.limit}"),
        *(["--skip", asked.skip] if asked.skip else []),
        *("-v", "--no-color", "--silence-skips", "--poll-progress-after=5m"),
        *("--junit-report=junit.xml", f"--output-dir={folder}", programs["e2e.test"], "--"),
        *("--provider=skeleton", f"--kubeconfig={ground.kubeconfig}", f"--kubectl-path={ground.kubectl}"),
        *("--node-os-distro=custom", "--disable-log-dump", "--minStartupPods=0"),
    ]
    log = folder / "ginkgo.log"
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    with log.open("wb") as out:
        child = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        over = threading.Event()
        watcher = threading.Thread(target=tell_progress, args=(way, log, over), daemon=True)
        watcher.start()
        try:
            child.wait()
        finally:
            over.set()
            watcher.join()
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    say(f"{way}: ginkgo ended with {child.returncode}; its words are in {log}")


def tell_progress(way: str, log: Path, over: threading.Event) -> None:
    """How many tests are over, every half minute."""
    began = time.monotonic()
    while not over.wait(_HEARTBEAT_S):
        text = log.read_text(errors="replace")
        passed, failed = (
            len(re.findall(r"^• \[\d", text, re.M)),
            len(re.findall(r"^• \[(?:FAILED|TIMEDOUT)", text, re.M)),
        )
        say(f"  {way}: {time.monotonic() - began:.0f} s, {passed} passed, {failed} failed")


def say(line: str) -> None:
    """To whoever waits, at once."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    asked = wish(arguments)
    lacking = missing_requirements()
    if lacking:
        say(f"this machine cannot run containers; it lacks: {', '.join(lacking)}")
        return 2
    programs = build([*CONTROL_PLANE, *NODE, *CONFORMANCE])
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        script = 'ip link set lo up && exec "$@"'
        words = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-m", "conformance.run", *arguments]
        os.execvp(words[0], words)  # noqa: S606 - no shell is wanted
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcomes = {way: run_way(way, asked, programs) for way in asked.ways}
    except KeyboardInterrupt:
        say("ended before it was done")
        return 130
    if len(asked.ways) < len(WAYS["both"]):
        return 0 if all(one is not Outcome.FAILED for one in outcomes[asked.ways[0]].values()) else 1
    lines = compare(outcomes["direct"], outcomes["gateway"])
    told = table(lines)
    (REPORTS / "table.md").write_text(told + "\n")
    say(told)
    return verdict(lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
