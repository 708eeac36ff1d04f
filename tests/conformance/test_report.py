"""What is read out of ginkgo's reports, and what two of them say together."""

from __future__ import annotations

from conformance.report import Line, Outcome, compare, read, summary, table, verdict

SPEC = '<testcase name="[It] [sig-cli] {name} [Conformance] [sig-cli, Conformance]" status="{status}" time="{time}"/>'


def junit(*cases: tuple[str, str, float], more: str = "") -> str:
    specs = "".join(SPEC.format(name=name, status=status, time=time) for name, status, time in cases)
    return f'<testsuites><testsuite name="e2e">{more}{specs}</testsuite></testsuites>'


def named(name: str) -> str:
    return f"[sig-cli] {name} [Conformance]"


def test_outcomes_are_read_and_what_was_left_out_is_not() -> None:
    text = junit(
        ("a", "passed", 3), ("b", "failed", 1), ("c", "skipped", 0.2), ("d", "skipped", 0), ("e", "timedout", 9)
    )
    assert read(text) == {
        named("a"): Outcome.PASSED,
        named("b"): Outcome.FAILED,
        named("c"): Outcome.SKIPPED,
        named("e"): Outcome.FAILED,
    }


def test_only_a_failed_step_around_the_tests_is_told() -> None:
    steps = '<testcase name="[SynchronizedBeforeSuite]" status="{}" time="1"/>'
    assert read(junit(more=steps.format("passed"))) == {}
    assert read(junit(more=steps.format("failed"))) == {"[SynchronizedBeforeSuite]": Outcome.FAILED}


def test_tests_of_other_kinds_are_not_told() -> None:
    other = '<testcase name="[It] [sig-cli] not for conformance [sig-cli]" status="passed" time="1"/>'
    assert read(junit(more=other)) == {}


def test_two_runs_side_by_side() -> None:
    direct = {"a": Outcome.PASSED, "b": Outcome.FAILED, "c": Outcome.PASSED}
    through = {"a": Outcome.PASSED, "b": Outcome.PASSED, "c": Outcome.FAILED}
    lines = compare(direct, through)
    assert lines == [
        Line("a", Outcome.PASSED, Outcome.PASSED),
        Line("b", Outcome.FAILED, Outcome.PASSED),
        Line("c", Outcome.PASSED, Outcome.FAILED),
    ]
    assert [line.broken for line in lines] == [False, False, True]
    assert summary("directly", direct) == "directly: 2 passed, 1 failed, 0 skipped"


def test_the_verdict_is_about_what_the_gateway_breaks() -> None:
    assert verdict(compare({"a": Outcome.PASSED, "b": Outcome.FAILED}, {"a": Outcome.PASSED, "b": Outcome.FAILED})) == 0
    assert verdict(compare({"a": Outcome.PASSED}, {"a": Outcome.FAILED})) == 1
    assert verdict(compare({"a": Outcome.PASSED, "b": Outcome.PASSED}, {"a": Outcome.PASSED})) == 1
    assert verdict([]) == 1


def test_the_table_counts_by_group_and_names_what_is_odd() -> None:
    text = table(
        compare(
            {"[sig-cli] a": Outcome.PASSED, "[sig-node] b": Outcome.PASSED},
            {"[sig-cli] a": Outcome.PASSED, "[sig-node] b": Outcome.FAILED},
        )
    )
    assert "| sig-cli | 1 | 1 | 1 |" in text
    assert "| sig-node | 1 | 1 | 0 |" in text
    assert "| [sig-node] b | passed | failed |" in text
    assert "| [sig-cli] a |" not in text
