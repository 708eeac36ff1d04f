"""Passive health: a server that fails requests in a row is left out for a while. Pure.

What a finished request counts as is decided in evidence.py.

How long doubles with each ejection; every stretch of the first length without one forgives one doubling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from wharf.gateway.api import shapes

LOST_TOGETHER: Final = 0.1  # seconds; streams lost within it went with one connection


class Outcome(Enum):
    """What a finished request says about the server."""

    GOOD = "good"
    BAD = "bad"
    LOST = "lost"  # with the connection, as everything else on it
    NOTHING = "nothing"  # cancelled, not processed, another server's error, or the client can have provoked it


@dataclass(frozen=True, slots=True)
class Record:
    failures: int = 0  # in a row
    lost_at: float = float("-inf")
    ejections: int = 0  # not yet forgiven
    until: float = float("-inf")  # seconds; in again from then on

    def ejected(self, now: float) -> bool:
        return now < self.until


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
