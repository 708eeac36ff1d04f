"""The runner counts everything, goes on after a failure and ends what hangs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import run_tests
from run_tests import Tally, duration, read_junit, run, run_commands, run_pytest, summary
from suites import SUITES, Suite, chosen

JUNIT = """<testsuites><testsuite>
<testcase classname="a.b" name="good"/>
<testcase classname="a.b" name="bad"><failure message="no"/></testcase>
<testcase classname="a.b" name="torn"/>
<testcase classname="a.b" name="torn"><error message="teardown"/></testcase>
<testcase classname="a.b" name="away"><skipped type="pytest.skip" message="no root"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted_once_per_test() -> None:
    tally = read_junit(JUNIT)
    assert str(tally) == "1 passed, 2 failed, 1 skipped"
    assert tally.failures == ("a.b::bad", "a.b::torn")
    assert tally.skips == ("a.b::away: no root",)


def test_the_summary_ends_with_the_sum() -> None:
    text = summary([("unit", Tally(passed=3), 1.0), ("node", Tally(failed=1, failures=("x",)), 61.0)])
    assert text.splitlines()[-1] == "3 passed, 1 failed, 0 skipped"
    assert "FAILED: x" in text
    assert "1m01s" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (60, "1m00s"), (3725, "62m05s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_failing_check_does_not_stop_the_next(capfd: pytest.CaptureFixture[str]) -> None:
    suite = Suite("s", commands=(("one", sys.executable, "-c", "exit('broken')"), ("two", sys.executable, "-c", "")))
    tally = run_commands(suite)
    assert (tally.passed, tally.failed, tally.failures) == (1, 1, ("s one",))
    assert "broken" in capfd.readouterr().out


def test_a_check_that_passes_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("x", [sys.executable, "-c", "print('chatter')"], 30, quiet=True) == 0
    assert "chatter" not in capfd.readouterr().out


def test_output_is_streamed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("x", [sys.executable, "-c", "print('news')"], 30) == 0
    assert "news" in capfd.readouterr().out


def test_a_hanging_command_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert run("x", [sys.executable, "-c", "import time; time.sleep(60)"], 0.5) == 124
    assert time.monotonic() - started < 30
    assert "ran past its limit" in capfd.readouterr().out


def test_a_suite_that_dies_before_its_report_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conftest.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "test_x.py").write_text("def test_x(): pass\n")
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    tally = run_pytest(Suite("dead", paths=(str(tmp_path),)), [])
    assert (tally.passed, tally.failed) == (0, 1)
    assert "code 7" in tally.failures[0]
    capfd.readouterr()


def test_ordinary_suites_are_counted_from_their_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_x.py").write_text("def test_x(): pass\ndef test_y(): assert 0\n")
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    tally = run_pytest(Suite("small", paths=(str(tmp_path),)), ["-c", str(tmp_path / "pytest.ini")])
    assert (tally.passed, tally.failed) == (1, 1)
    capfd.readouterr()


def test_a_suite_without_its_folder_is_empty(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_pytest(Suite("none", paths=("no/such/folder",)), []) == Tally()
    capfd.readouterr()


def test_all_means_what_ci_runs() -> None:
    assert [suite.name for suite in chosen(["all"])] == [suite.name for suite in SUITES if suite.in_all]
    with pytest.raises(KeyError):
        chosen(["unknown"])
