"""Shared limits kept in memory: what the Lua script in `shares_redis` does, for workers of one parent. Pure.

Tokens: a bucket is refilled, pays what was spent on credit (it may go into debt) and grants what is wanted as far as it
has. Slots: a holder may use what others do not hold, and not more than its fair part while together they want more
than there is; it holds what it uses or may use, whichever is more, so a part that shrinks passes on as requests end.

Invariants: tokens granted in any time never exceed burst + rate x time + what is given back; slots that may be used
never exceed the limit, except by what was used on credit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wharf.gateway.limits.exchange import TTL, Answers, Ask, Kind


@dataclass(slots=True)
class _Tokens:
    tokens: float
    at: float
    full_at: float = 0.0  # forgotten then: a full bucket is like none


@dataclass(slots=True)
class _Part:
    hold: float
    want: float
    until: float


@dataclass(slots=True)
class Ledger:
    """Of all clusters."""

    _tokens: dict[str, _Tokens] = field(default_factory=dict)
    _slots: dict[str, dict[str, _Part]] = field(default_factory=dict)
    _alive: dict[str, float] = field(default_factory=dict)
    _swept_at: float = -math.inf

    def answer(self, holder: str, asks: Sequence[Ask], now: float) -> Answers:
        """Count the asks of one process."""
        self._alive[holder] = now + TTL
        if now - self._swept_at >= TTL:
            self._sweep(now)
        grants = tuple(
            self._take(ask, now) if ask.kind is Kind.TOKENS else self._lease(holder, ask, now) for ask in asks
        )
        return Answers(grants, sum(until > now for until in self._alive.values()))

    def forget(self, holder: str) -> None:
        """A process is gone: its slots are free."""
        self._alive.pop(holder, None)
        for parts in self._slots.values():
            parts.pop(holder, None)

    @property
    def size(self) -> int:
        """Buckets remembered."""
        return len(self._tokens) + len(self._slots)

    def _take(self, ask: Ask, now: float) -> float:
        bucket = self._tokens.setdefault(ask.key, _Tokens(ask.limit, now))
        tokens = min(ask.limit, bucket.tokens + max(0.0, now - bucket.at) * ask.rate)
        tokens = min(ask.limit, tokens - ask.used)
        grant = min(ask.want, max(tokens, 0.0))
        bucket.tokens, bucket.at = tokens - grant, now
        bucket.full_at = now + (ask.limit - bucket.tokens) / ask.rate if ask.rate > 0 else math.inf
        return grant

    def _lease(self, holder: str, ask: Ask, now: float) -> float:
        parts = self._slots.setdefault(ask.key, {})
        for gone in [name for name, part in parts.items() if part.until <= now]:
            del parts[gone]
        parts.pop(holder, None)
        if ask.used <= 0 and ask.want <= 0:
            return 0.0
        part = fair_part([*(part.want for part in parts.values()), ask.want], ask.want, ask.limit)
        limit = max(0.0, min(part, ask.limit - sum(other.hold for other in parts.values())))
        parts[holder] = _Part(max(ask.used, limit), ask.want, now + TTL)
        return limit

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        _drop(self._alive, (name for name, until in self._alive.items() if until <= now))
        _drop(self._tokens, (key for key, bucket in self._tokens.items() if bucket.full_at <= now))
        stale = (key for key, parts in self._slots.items() if all(part.until <= now for part in parts.values()))
        _drop(self._slots, stale)


def fair_part(wants: list[float], mine: float, limit: float) -> float:
    """Of `limit`, for one who wants `mine`, when all want `wants`: what small wishes leave goes to large ones."""
    left, count = limit, len(wants)
    for want in sorted(wants):
        level = left / count
        if want > level:
            return min(mine, math.ceil(level))
        left -= want
        count -= 1
    return mine


def _drop(table: dict[str, Any], keys: Iterable[str]) -> None:
    for key in tuple(keys):
        del table[key]
