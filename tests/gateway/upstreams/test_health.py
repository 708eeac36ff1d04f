"""Probes and verdicts: quick at first, then slow to change; and what answers mean."""

from __future__ import annotations

import pytest
from wharf.gateway.api import shapes
from wharf.gateway.upstreams.health import REASON_MAX, Health, ProbeResult, Verdict, judge, read_probe

RULES = shapes.Health(failures=3, successes=2)


def after(marks: str, rules: shapes.Health = RULES) -> list[str]:
    """The verdict's initial after each probe, one a second: + alive, - not."""
    health, seen = Health(), []
    for second, mark in enumerate(marks):
        health = judge(health, ProbeResult(mark == "+", mark), float(second), rules)
        seen.append(health.verdict.name[0])
    return seen


@pytest.mark.parametrize(
    ("marks", "verdicts"),
    [
        ("+", "H"),  # the first decides
        ("-", "U"),
        ("+--", "HHH"),
        ("+---", "HHHU"),
        ("+--+--+", "HHHHHHH"),  # not in a row
        ("+---+", "HHHUU"),
        ("+---++", "HHHUUH"),
        ("-+-+-+", "UUUUUU"),
        ("-++", "UUH"),
    ],
)
def test_edge_39_a_verdict_changes_after_several_in_a_row(marks: str, verdicts: str) -> None:
    assert after(marks) == list(verdicts)


def test_since_and_reason() -> None:
    health = judge(Health(), ProbeResult(True), 5.0, RULES)
    health = judge(health, ProbeResult(False, "refused"), 6.0, RULES)
    assert (health.verdict, health.since, health.against, health.reason) == (Verdict.HEALTHY, 5.0, 1, "refused")
    health = judge(health, ProbeResult(True, ""), 7.0, RULES)
    assert (health.against, health.reason) == (0, "")
    for second in (8.0, 9.0, 10.0):
        health = judge(health, ProbeResult(False, "refused"), second, RULES)
    assert (health.verdict, health.since) == (Verdict.UNHEALTHY, 10.0)


@pytest.mark.parametrize(
    ("status", "body", "alive", "reason"),
    [
        (200, b"ok", True, ""),
        (401, b"", True, "answers the probe with 401: the gateway may not read this path"),
        (403, b"{}", True, "answers the probe with 403: the gateway may not read this path"),
        (429, b"", True, "answers the probe with 429: busy"),
        (500, b"[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed\n", False,
         "500 etcd failed: reason withheld; informer-sync failed"),
        (503, b"shutting\n down", False, "503 shutting down"),
        (404, b"", False, "404"),
        (301, b"", False, "301"),
        (500, b"\xff\xfe", False, "500 \ufffd\ufffd"),
    ],
)  # fmt: skip
def test_what_an_answer_means(status: int, body: bytes, alive: bool, reason: str) -> None:
    assert read_probe(status, body) == ProbeResult(alive, reason)


def test_a_long_answer_is_cut() -> None:
    assert len(read_probe(500, b"x" * 100_000).reason) == REASON_MAX
