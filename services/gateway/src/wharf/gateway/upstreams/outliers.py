"""Passive health: a server that fails requests in a row is left out for a while. Pure.

Only what is the server's own doing counts. A 503 that kube-apiserver hands on from an aggregated API or a kubelet says
nothing about it: else a broken metrics-server would take healthy kube-apiservers out, one after the other.

How long doubles with each ejection; every stretch of the first length without one forgives one doubling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api import shapes
from wharf.gateway.route.kinds import relayed
from wharf.wire.web import Fault

OWN_FAILURES: Final = frozenset((502, 503, 504))
BUILT_IN_SUFFIX: Final = ".k8s.io"
AGGREGATED: Final = frozenset(("metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"))
LOST_TOGETHER: Final = 0.1  # seconds; streams lost within it went with one connection


class Outcome(Enum):
    """What a finished request says about the server."""

    GOOD = "good"
    BAD = "bad"
    LOST = "lost"  # with the connection, as everything else on it
    NOTHING = "nothing"  # cancelled, refused unprocessed, no connection free, somebody else's error


@dataclass(frozen=True, slots=True)
class Record:
    failures: int = 0  # in a row
    lost_at: float = float("-inf")
    ejections: int = 0  # not yet forgiven
    until: float = float("-inf")  # seconds; in again from then on

    def ejected(self, now: float) -> bool:
        return now < self.until


def outcome_of(info: RequestInfo, status: int, fault: Fault | None) -> Outcome:
    """How a request that got `status` (0: no head) and ended with `fault` (None: whole, or cancelled) counts."""
    if fault is Fault.LOST:
        return Outcome.LOST
    if fault is Fault.REFUSED or fault is Fault.FULL or (fault is None and not status):
        return Outcome.NOTHING
    if fault is not None:
        # A server that closes a watch it has served for an hour may do so by reset.
        return Outcome.NOTHING if status and info.long_running else Outcome.BAD
    if status not in OWN_FAILURES:
        return Outcome.GOOD
    return Outcome.BAD if _answers_itself(info) else Outcome.NOTHING


def _answers_itself(info: RequestInfo) -> bool:
    group = info.group
    if relayed(info):
        return False
    return "." not in group or (group.endswith(BUILT_IN_SUFFIX) and group not in AGGREGATED)


def note(record: Record, outcome: Outcome, now: float, rules: shapes.Outliers, may_eject: bool) -> Record:
    """The record after one more request; its `until` is later where that one was the last straw.

    `may_eject` is False where too few servers would be left: the count goes on, and the next failure asks again.
    """
    if outcome is Outcome.NOTHING or rules.consecutive_failures == 0:
        return record
    if outcome is Outcome.GOOD:
        return record if not record.failures else replace(record, failures=0)
    if outcome is Outcome.LOST:
        if now - record.lost_at < LOST_TOGETHER:
            return record
        record = replace(record, lost_at=now)
    if record.ejected(now):
        return record  # what was under way when it happened
    failures = record.failures + 1
    if failures < rules.consecutive_failures or not may_eject:
        return replace(record, failures=failures)
    return _eject(record, now, rules)


def _eject(record: Record, now: float, rules: shapes.Outliers) -> Record:
    ejections = record.ejections
    if ejections:
        ejections = max(0, ejections - int((now - record.until) / rules.eject))
    # A float doubles a thousand times, a number of seconds needs few of them.
    seconds = min(rules.eject_max, rules.eject * 2.0 ** min(ejections, 64))
    return Record(0, record.lost_at, ejections + 1, now + seconds)


def may_eject(out: int, servers: int, share: float) -> bool:
    """Whether one more of `servers` may be left out when `out` of them are already, for whatever reason."""
    return out + 1 <= share * servers
