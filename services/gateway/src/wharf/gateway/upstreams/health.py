"""Whether a server is in: what probes say, with hysteresis. Pure.

The first probe decides by itself, so that a gateway is ready after one round; from then on it takes several in a row to
change the verdict, so that one lost probe takes nobody out and one lucky one brings nobody back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from wharf.gateway.api import shapes

REASON_MAX: Final = 200  # characters


class Verdict(Enum):
    UNKNOWN = "not probed yet"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found. `reason` is for people: empty when there is nothing to say."""

    alive: bool
    reason: str = ""
    certain: bool = False  # one is enough: each further request would do harm


@dataclass(frozen=True, slots=True)
class Health:
    verdict: Verdict = Verdict.UNKNOWN
    since: float = 0.0  # seconds, when the verdict came
    against: int = 0  # results in a row that contradict the verdict
    reason: str = ""  # of the last result


def judge(health: Health, result: ProbeResult, now: float, rules: shapes.Health) -> Health:
    """The state after one more probe."""
    says = Verdict.HEALTHY if result.alive else Verdict.UNHEALTHY
    if says is health.verdict:
        return Health(health.verdict, health.since, 0, result.reason)
    needed = rules.successes if result.alive else rules.failures
    if result.certain or health.verdict is Verdict.UNKNOWN or health.against + 1 >= needed:
        return Health(says, now, 0, result.reason)
    return Health(health.verdict, health.since, health.against + 1, result.reason)


def read_probe(status: int, body: bytes) -> ProbeResult:
    """What an answer to `GET /readyz` means.

    401 and 403 come from a server that is at work and only won't tell the gateway more, 429 from one that is busy:
    taking it out would make the others busier. The failed checks a kube-apiserver lists ("[-]etcd failed") are the
    reason.
    """
    if 200 <= status < 300:
        return ProbeResult(True)
    if status in (401, 403):
        return ProbeResult(True, f"answers the probe with {status}: the gateway may not read this path")
    if status == 429:
        return ProbeResult(True, "answers the probe with 429: busy")
    text = body[:4096].decode("utf-8", "replace")
    failed = [line[3:].strip() for line in text.splitlines() if line.startswith("[-]")]
    detail = "; ".join(failed) or " ".join(text.split())
    return ProbeResult(False, f"{status} {detail}".strip()[:REASON_MAX])
