"""Run suites one after another, go on after a failing one, and close with one line that sums them all.

`run_tests.py all` is what CI runs; `run_tests.py unit -- -k lease -x` gives further words to pytest.
Invariant: whatever a suite does (fails, hangs, dies before it wrote its report) it is counted, and the exit code is
zero only when nothing failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from suites import Suite, chosen

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"
HEARTBEAT_S = 30.0  # a silent suite says that often that it is alive
END_GRACE_S = 20.0  # between asking a hanging suite to end and ending it
NO_TESTS = 5  # pytest's exit code when it collected nothing


@dataclass(frozen=True, slots=True)
class Tally:
    """How one suite, or all of them, ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: tuple[str, ...] = field(default=())  # names, for the summary
    skips: tuple[str, ...] = field(default=())  # name and reason

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.failures + other.failures,
            self.skips + other.skips,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_junit(text: str) -> Tally:
    """The tally of a junit report. A test whose body passed and whose teardown failed counts as failed once."""
    outcomes: dict[str, tuple[str, str]] = {}
    for case in ElementTree.fromstring(text).iter("testcase"):  # noqa: S314 - written by our own pytest
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes[name] = ("failed", "")
        elif skip is not None and skip.get("type") != "pytest.xfail":
            outcomes.setdefault(name, ("skipped", skip.get("message") or ""))
        else:
            outcomes.setdefault(name, ("passed", ""))
    failures = tuple(name for name, (outcome, _) in outcomes.items() if outcome == "failed")
    skips = tuple(f"{name}: {reason}" for name, (outcome, reason) in outcomes.items() if outcome == "skipped")
    return Tally(len(outcomes) - len(failures) - len(skips), len(failures), len(skips), failures, skips)


class Watchdog:
    """Says that a silent suite is alive, and ends one that runs past its limit, with all it started in its group."""

    def __init__(self, label: str, process: subprocess.Popen[str], limit_s: float) -> None:
        self._label, self._process, self._limit_s = label, process, limit_s
        self._started = self.last_output = time.monotonic()
        self._done = threading.Event()
        self.expired = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(min(HEARTBEAT_S, self._limit_s / 4)):
            now = time.monotonic()
            if now - self._started > self._limit_s:
                self.expired = True
                self._end()
                return
            if now - self.last_output >= HEARTBEAT_S:
                print(f"    … {self._label}: still running, {duration(now - self._started)}", flush=True)
                self.last_output = now

    def _end(self) -> None:
        print(f"    {self._label} ran past its limit of {duration(self._limit_s)}: ending it", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(END_GRACE_S)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def duration(seconds: float) -> str:
    """65.2 → "1m05s"; below a minute "4.2s"."""
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}s" if seconds >= 60 else f"{seconds:.1f}s"


def run(label: str, words: list[str], limit_s: float, *, quiet: bool = False) -> int:
    """Run one command; its exit code, 124 when it ran past its limit. Output is streamed, or shown only on failure."""
    held: list[str] = []
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "VIRTUAL_ENV": sys.prefix,
    }
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        watchdog = Watchdog(label, process, limit_s)
        try:
            for line in process.stdout or ():
                if quiet:
                    held.append(line)
                    continue
                watchdog.last_output = time.monotonic()
                print(f"    {line}", end="", flush=True)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
        finally:
            watchdog.stop()
    code = 124 if watchdog.expired else process.returncode
    if code != 0:
        print("".join(f"    {line}" for line in held), end="", flush=True)
    return code


def run_commands(suite: Suite) -> Tally:
    tally = Tally()
    for name, *words in suite.commands:
        started = time.monotonic()
        code = run(f"{suite.name} {name}", words, suite.limit_s, quiet=True)
        print(f"  {'ok    ' if code == 0 else 'FAILED'} {name} ({duration(time.monotonic() - started)})", flush=True)
        tally += Tally(passed=1) if code == 0 else Tally(failed=1, failures=(f"{suite.name} {name}",))
    return tally


def pytest_words(suite: Suite, report: Path, further: list[str]) -> list[str]:
    words = ["python", "-m", "pytest", *(path for path in suite.paths if (ROOT / path).exists())]
    words += [
        "-q",
        "--no-header",
        f"--timeout={suite.test_limit_s}",
        "--durations=5",
        "--durations-min=2",
        f"--junitxml={report}",
        *suite.options,
    ]
    if suite.coverage:
        words += ["--cov", "--cov-report=term:skip-covered", f"--cov-report=xml:{REPORTS / 'coverage.xml'}"]
    return words + further


def run_pytest(suite: Suite, further: list[str]) -> Tally:
    if not any((ROOT / path).exists() for path in suite.paths):
        print("  nothing here yet")
        return Tally()
    report = REPORTS / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    code = run(suite.name, pytest_words(suite, report, further), suite.limit_s)
    tally = read_junit(report.read_text()) if report.exists() else Tally()
    if code not in (0, NO_TESTS) and tally.failed == 0:
        tally += Tally(failed=1, failures=(f"{suite.name}: pytest ended with code {code}",))
    return tally


def summary(results: list[tuple[str, Tally, float]]) -> str:
    """The closing table; its last line is the sum in the plain form that readers of logs look for."""
    total = sum((tally for _, tally, _ in results), Tally())
    lines = ["", "summary"]
    lines += [f"  {name:<12} {duration(seconds):>7}  {tally}" for name, tally, seconds in results]
    lines += [f"  skipped: {skip}" for skip in total.skips]
    lines += [f"  FAILED: {failure}" for failure in total.failures]
    return "\n".join([*lines, "", str(total)])


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, further = arguments[:split], arguments[split + 1 :]
    parser = argparse.ArgumentParser(description="Run suites and sum them up.")
    parser.add_argument("suites", nargs="+", help="names from scripts/suites.py, or `all`")
    try:
        suites = chosen(parser.parse_args(own).suites)
    except KeyError as unknown:
        parser.error(f"no suite is called {unknown}")
    (ROOT / "build" / "coverage").mkdir(parents=True, exist_ok=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    results = []
    for number, suite in enumerate(suites, 1):
        print(f"\n[{number}/{len(suites)}] {suite.name}", flush=True)
        started = time.monotonic()
        tally = run_commands(suite) if suite.commands else run_pytest(suite, further)
        results.append((suite.name, tally, time.monotonic() - started))
    print(summary(results), flush=True)
    return 1 if any(tally.failed for _, tally, _ in results) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
