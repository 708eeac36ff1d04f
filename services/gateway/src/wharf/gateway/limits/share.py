"""A bucket's part of a limit that processes share. Pure.

Tokens come in batches: the reserve is meant to last for `HORIZON` at the recent rate, and is asked for when half of it
is gone. A bucket nobody used for a while gives its reserve back and stands on credit: its first tokens may be spent
before anybody is asked, and are charged with the next ask. Credit comes back only after an ask was granted in full, so
that the mean rate holds whoever spends. Slots are the same: some may be used on credit, the rest is leased.

Invariant: what this process may spend without being granted it is at most `first_tokens` and `first_slots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from wharf.gateway.limits.bucket import EPSILON, Bucket, Slots, burst_of
from wharf.gateway.limits.exchange import Ask, Kind
from wharf.gateway.limits.outcome import Cause

if TYPE_CHECKING:
    from wharf.gateway.api.shapes import Schema
    from wharf.gateway.limits.shares import Shares

PERIOD: Final = 0.1  # seconds between two asks for one bucket, at least
IDLE: Final = 3.0  # seconds without use after which a bucket gives back what it has; longer than most wait to try again
HORIZON: Final = 0.25  # seconds a reserve is meant to last
_BATCH: Final = 0.2  # of a second's tokens, the most in a reserve


def first_tokens(schema: Schema, replicas: int) -> float:
    """Tokens one process may spend on credit: half the burst, by all of them."""
    return max(1.0, burst_of(schema) / (2 * replicas))


def batch_tokens(schema: Schema, replicas: int) -> float:
    """The largest reserve of one process."""
    return max((schema.qps or 0.0) * _BATCH, first_tokens(schema, replicas))


def first_slots(limit: float, replicas: int) -> float:
    """Slots one process may use on credit: a quarter, by all of them."""
    return min(limit, max(1.0, limit // (4 * replicas)))


def local_part(limit: float, replicas: int) -> float:
    """Of a limit, while each process is by itself. Never nothing, or its clients would be shut out."""
    return limit if math.isinf(limit) else min(limit, max(1.0, limit // replicas))


class SlotShare:
    """Requests or watches at once."""

    __slots__ = ("granted", "missed", "name", "peak", "slots")

    def __init__(self, slots: Slots, name: str) -> None:
        self.slots, self.name = slots, name
        self.granted = 0.0
        self.peak = 0  # of use, since the last ask
        self.missed = 0

    def ask(self, limit: float, least: float, idle: bool) -> Ask | None:
        """Use and wish: what was used at once lately, and some more, `least` at least."""
        used, peak, missed = self.slots.used, max(self.peak, self.slots.used), self.missed
        self.peak = self.missed = 0
        if math.isinf(limit):
            return None
        want = 0.0 if idle and not used else min(limit, max(least, peak + max(1, peak // 4) + missed))
        return Ask(self.name, Kind.SLOTS, limit, 0.0, used, want)


class BucketShare:
    """What one bucket of this process has and needs; see the module. Implements `bucket.Share`."""

    __slots__ = (
        "_active",
        "_counting_since",
        "_owed",
        "asked_at",
        "bucket",
        "dry",
        "free",
        "low",
        "missed_tokens",
        "name",
        "need",
        "rate",
        "shares",
        "slots",
        "taken_tokens",
        "used_at",
    )

    def __init__(self, shares: Shares, bucket: Bucket, name: str, now: float) -> None:
        self.shares, self.bucket, self.name = shares, bucket, f"{name}/t/{bucket.key}"
        self._active = False
        self._owed = 0.0  # spent on credit, not charged yet
        self.free = 0.0  # tokens there are on credit
        self.low = 0.0  # tokens below which to ask
        self.dry = False  # the last wish was not granted in full
        self.rate = 0.0  # tokens a second wanted lately
        self.taken_tokens = self.missed_tokens = self.need = 0.0  # since the last ask; need: the dearest one missed
        self.asked_at = -math.inf
        self.used_at = self._counting_since = now
        self.slots = (
            SlotShare(bucket.in_flight, f"{name}/f/{bucket.key}"),
            SlotShare(bucket.watches, f"{name}/w/{bucket.key}"),
        )
        self.begin()

    @property
    def active(self) -> bool:
        return self._active

    def spent(self, tokens: float, now: float) -> None:
        self.used_at = now
        if self.shares.away:
            return
        if not self._active:
            self._wake()
        self.taken_tokens += tokens
        if self.bucket.tokens < self.low and self.bucket.gate.rated:
            self.shares.hunger(self)
        for share in self.slots:
            slots = share.slots
            share.peak = max(share.peak, slots.used)
            if slots.used >= slots.limit and slots.limit < self._most(slots):
                self.shares.hunger(self)

    def missed(self, cause: Cause, tokens: float, now: float) -> None:
        self.used_at = now
        if self.shares.away:
            return
        if not self._active:
            self._wake()
        if cause is Cause.RATE:
            self.missed_tokens += tokens
            self.need = max(self.need, min(tokens, self.bucket.gate.burst))
        else:
            self.slots[cause is Cause.WATCHES].missed += 1
        self.shares.hunger(self)

    def returned(self, tokens: float) -> None:
        self.taken_tokens -= tokens

    def resized(self) -> None:
        """Set the limits of the slots: by what was granted, on credit, or this process's part."""
        shares = self.shares
        for share in self.slots:
            most = self._most(share.slots)
            if math.isinf(most):
                share.slots.limit = most
            elif shares.away:
                share.slots.limit = local_part(most, shares.replicas)
            elif self._active:
                share.slots.limit = min(share.granted, most)
            else:
                share.slots.limit = first_slots(most, shares.replicas)

    def begin(self) -> None:
        """Stand on credit."""
        self._active = self.dry = False
        bucket, shares = self.bucket, self.shares
        if not shares.away and bucket.gate.rated:
            bucket.tokens = min(bucket.tokens, first_tokens(bucket.gate.schema, shares.replicas))
            self.free = max(bucket.tokens, 0.0)
        self.resized()

    def resume(self) -> None:
        """The keeper is there again: go on with what this process had by itself, and tell of it."""
        self.begin()
        if self.bucket.busy or self.bucket.tokens < 0:
            self._wake()
            for share in self.slots:
                share.granted = local_part(self._most(share.slots), self.shares.replicas)
            self.resized()

    def give_up(self) -> Iterator[Ask]:
        """Asks that give everything back, for the end of the process."""
        if self.bucket.gate.rated:
            back = self._owed - max(0.0, self.bucket.tokens)
            yield Ask(self.name, Kind.TOKENS, burst_of(self.bucket.gate.schema), self.bucket.gate.pace, back, 0.0)
        for share in self.slots:
            if not math.isinf(most := self._most(share.slots)):
                yield Ask(share.name, Kind.SLOTS, most, 0.0, 0.0, 0.0)

    def asks(self, now: float) -> Iterator[tuple[SlotShare | None, Ask]]:
        """What to ask now; None stands for the tokens. What is given back is gone from here at once."""
        idle = now - self.used_at >= IDLE and not self.bucket.queue
        if self.bucket.gate.rated and (ask := self._ask_tokens(idle, now)) is not None:
            yield None, ask
        for share in self.slots:
            most = self._most(share.slots)
            least = first_slots(most, self.shares.replicas) + len(self.bucket.queue)
            if (asked := share.ask(most, least, idle)) is not None:
                yield share, asked
        self.asked_at = self._counting_since = now
        in_use = any(share.slots.used for share in self.slots)
        if idle and not self.dry and not in_use and self.bucket.tokens >= 0:
            if self.bucket.gate.rated:
                self.bucket.tokens = first_tokens(self.bucket.gate.schema, self.shares.replicas)
            self.begin()

    def granted(self, share: SlotShare | None, ask: Ask, grant: float) -> None:
        """The answer to one of `asks`."""
        if share is None:
            self.dry = grant < ask.want - EPSILON
            self.bucket.tokens = min(self.bucket.tokens + grant, self.bucket.gate.burst)
        elif self._active:
            share.granted = grant
            share.slots.limit = min(grant, self._most(share.slots))

    def _wake(self) -> None:
        self._active, self._counting_since = True, self.used_at
        self._owed, self.free = self.free, 0.0
        for share in self.slots:
            share.granted = share.slots.limit
        self.shares.activate(self)

    def _ask_tokens(self, idle: bool, now: float) -> Ask | None:
        schema, bucket = self.bucket.gate.schema, self.bucket
        recent = (self.taken_tokens + self.missed_tokens) / max(now - self._counting_since, PERIOD)
        self.rate = max(recent, (self.rate + recent) / 2)
        replicas = self.shares.replicas
        batch = max(batch_tokens(schema, replicas), self.need)
        wish = max(self.rate * HORIZON, self.need, len(bucket.queue), first_tokens(schema, replicas))
        target = 0.0 if idle and not self.dry else min(wish, batch)
        surplus = max(0.0, bucket.tokens - 2 * target)
        bucket.tokens -= surplus
        ask = Ask(
            self.name,
            Kind.TOKENS,
            burst_of(schema),
            self.bucket.gate.pace,
            self._owed - surplus,
            max(0.0, target - bucket.tokens),
        )
        self.low = target / 2
        self._owed = self.taken_tokens = self.missed_tokens = self.need = 0.0
        return ask if ask.used or ask.want else None

    def _most(self, slots: Slots) -> float:
        gate = self.bucket.gate
        return gate.slots if slots is self.bucket.in_flight else gate.watch_slots
