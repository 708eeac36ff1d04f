"""Reads what ginkgo reported and sets two runs of the same tests side by side.

Pure: texts go in, a table and a verdict come out. Only conformance tests that were asked for count; ginkgo also lists
the thousands it left out, and its own set-up steps, of which only a failed one is news.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

_SPEC = re.compile(r"\[It\] (?P<name>.*\[Conformance\])")
_LEFT_OUT = {"skipped", "pending"}


class Outcome(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # it began and found that it does not apply here
    MISSING = "not run"


Outcomes = Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class Line:
    """One test in both runs."""

    name: str
    direct: Outcome
    through: Outcome

    @property
    def broken(self) -> bool:
        """It passes past the gateway only."""
        return self.direct is Outcome.PASSED and self.through is not Outcome.PASSED


def read(junit: str) -> dict[str, Outcome]:
    """Outcomes by the names of tests, from ginkgo's JUnit file. ParseError when it is none."""
    outcomes: dict[str, Outcome] = {}
    for case in ElementTree.fromstring(junit).iter("testcase"):  # noqa: S314 - written by a program we started
        status, title = case.get("status", ""), case.get("name", "")
        found = _SPEC.match(title)
        if found is None:
            if status not in {"passed", *_LEFT_OUT}:
                outcomes[title] = Outcome.FAILED
        elif status == "passed":
            outcomes[found["name"]] = Outcome.PASSED
        elif status not in _LEFT_OUT:
            outcomes[found["name"]] = Outcome.FAILED
        elif float(case.get("time", "0")) > 0:  # what was left out took no time at all
            outcomes[found["name"]] = Outcome.SKIPPED
    return outcomes


def compare(direct: Outcomes, through: Outcomes) -> list[Line]:
    """Every test that either run knows, by name."""
    missing = Outcome.MISSING
    return [Line(name, direct.get(name, missing), through.get(name, missing)) for name in sorted({*direct, *through})]


def summary(way: str, outcomes: Outcomes) -> str:
    """One line: how many passed, failed and were skipped."""
    counted = Counter(outcomes.values())
    told = ", ".join(f"{counted[one]} {one}" for one in (Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED))
    return f"{way}: {told}"


def table(lines: list[Line]) -> str:
    """Markdown: a count per group of tests, then every test that did not pass on both ways."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.name.partition("]")[0].lstrip("["), []).append(line)
    rows = ["| tests | run | passed directly | passed through the gateway |", "|---|---|---|---|"]
    for group, members in sorted(groups.items()):
        passed = [sum(getattr(one, way) is Outcome.PASSED for one in members) for way in ("direct", "through")]
        rows.append(f"| {group} | {len(members)} | {passed[0]} | {passed[1]} |")
    odd = [line for line in lines if {line.direct, line.through} != {Outcome.PASSED}]
    if odd:
        rows += ["", "| not passed on both ways | directly | through the gateway |", "|---|---|---|"]
        rows += [f"| {line.name} | {line.direct} | {line.through} |" for line in odd]
    return "\n".join(rows)


def verdict(lines: list[Line]) -> int:
    """Exit code: 0 when at least one test passes on both ways and none passes past the gateway only."""
    return 0 if any(line.direct is line.through is Outcome.PASSED for line in lines) and not _broken(lines) else 1


def _broken(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.broken]
