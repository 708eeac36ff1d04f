"""What `make check` and `make test` run: one table of suites, each a list of commands.

Pure data: how suites are run is in run_tests.py. Order matters: the quickest news comes first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """One named group of tests: pytest over `paths`, or plain `commands` that each count as one test."""

    name: str
    paths: tuple[str, ...] = ()  # folders given to pytest; those that do not exist are left out
    options: tuple[str, ...] = ()  # further pytest options
    commands: tuple[tuple[str, ...], ...] = ()  # name of the check, then its words
    test_limit_s: int = 600  # one test that runs longer hangs: it fails, with the stacks of its threads
    limit_s: int = 1500  # a suite that runs longer hangs: it is ended and counts as failed
    coverage: bool = False
    in_all: bool = True  # part of `make test`


def check(name: str, *words: str) -> tuple[str, ...]:
    return (name, *words)


CHECK = Suite(
    "check",
    commands=(
        check("format", "ruff", "format", "--check", "--quiet", "."),
        check("lint", "ruff", "check", "--quiet", "."),
        check("types", "mypy", "--no-error-summary", "."),
        check("imports", "lint-imports", "--no-cache"),
        check("sources", "python", "scripts/check_sources.py"),
        check("proto", "python", "scripts/generate_proto.py", "--check"),
    ),
)

UNIT = Suite(
    "unit",
    paths=(
        *("tests/wire", "tests/common", "tests/brain", "tests/gateway", "tests/cli", "tests/scripts"),
        *("tests/harness", "tests/conformance"),
    ),
    options=("-m", "not node and not soak", "-n", "2", "--dist", "loadfile", "--timeout-method=thread"),
    test_limit_s=180,
    coverage=True,
)

SUITES: tuple[Suite, ...] = (
    CHECK,
    UNIT,
    Suite("chart", paths=("charts",), limit_s=600),
    Suite("proofs", paths=("tests/proofs", "tests/fuzz"), options=("-m", "not soak")),
    Suite("integration", paths=("tests/integration",), options=("-m", "not node and not soak")),
    Suite("faults", paths=("tests/faults",), options=("-m", "not soak", "--ignore=tests/faults/replicated")),
    Suite("replicated", paths=("tests/faults/replicated",), options=("-m", "not soak"), limit_s=1200),
    Suite("cluster", paths=("tests/cluster",), options=("-m", "not node and not soak"), limit_s=2400),
    Suite("node", paths=("tests/cluster",), options=("-m", "node"), test_limit_s=900, limit_s=2400),
    Suite("compose", paths=("tests/compose",), test_limit_s=1200, limit_s=1800, in_all=False),
    Suite("soak", paths=("tests",), options=("-m", "soak"), test_limit_s=6 * 3600, limit_s=6 * 3600, in_all=False),
)


def chosen(names: list[str]) -> list[Suite]:
    """The suites of `names` in their own order; `all` is what CI runs. KeyError names the unknown one."""
    known = {suite.name: suite for suite in SUITES}
    if names == ["all"]:
        return [suite for suite in SUITES if suite.in_all]
    return [known[name] for name in names]
