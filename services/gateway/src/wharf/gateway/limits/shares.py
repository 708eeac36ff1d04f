"""The limits this process shares with others: which buckets ask when, and what happens while nobody answers. Pure.

`plan` gathers what is due into one round, a shell carries it to the keeper, `apply` or `fail` takes the outcome. A
request never waits for a round: it is decided by what its bucket has. While the keeper is away, each process grants by
itself: the limits divided by the number of processes last heard of. Nothing is ever unlimited.

    hungry bucket -> plan: Round -> exchange -> apply: tokens, slots, queues move
                                             -> fail: away, local parts; plan tries again after RETRY -> apply: shared

At most one round is under way. A bucket asks at most every PERIOD; one exchange carries all that are due.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from wharf.gateway.api.shapes import Schema
from wharf.gateway.limits.bucket import Bucket, burst_of
from wharf.gateway.limits.exchange import ASKS_MAX, Answers, Ask
from wharf.gateway.limits.gate import Gate
from wharf.gateway.limits.share import PERIOD, BucketShare, SlotShare

RENEW: Final = 0.5  # seconds after which a bucket in use asks in any case: leases last TTL
BEAT: Final = 1.0  # seconds after which a sign of life is due
SPACING: Final = 0.01  # seconds between rounds
RETRY: Final = 0.5  # seconds between attempts while the keeper is away
_PER_BUCKET: Final = 3  # asks


@dataclass(frozen=True, slots=True)
class Round:
    """One exchange: the asks, and whose they are."""

    asks: tuple[Ask, ...]
    askers: tuple[tuple[BucketShare, SlotShare | None], ...]


class Shares:
    """Of all clusters of this process. `replicas`: how many processes to reckon with before any was heard of."""

    def __init__(self, replicas: int = 1) -> None:
        self.away = True  # nobody keeps the limits: each process by itself
        self.replicas = max(1, replicas)
        self.on_hungry: Callable[[], None] | None = None  # something may be due earlier than `next_at` said
        self._gates: dict[Gate, None] = {}
        self._hungry: dict[BucketShare, None] = {}
        self._active: dict[BucketShare, None] = {}  # who asked longest ago comes first
        self._round_at = -math.inf
        self._failed_at = -math.inf

    @property
    def gates(self) -> int:
        """Schemas of scope GLOBAL, of all clusters."""
        return len(self._gates)

    def of(self, cluster: str) -> ClusterShares:
        """For the limiter of one cluster."""
        return ClusterShares(self, cluster)

    def hunger(self, share: BucketShare) -> None:
        """A bucket needs more."""
        if share not in self._hungry:
            self._hungry[share] = None
            if self.on_hungry is not None:
                self.on_hungry()

    def activate(self, share: BucketShare) -> None:
        """A bucket is in use again."""
        self._active[share] = None
        self.hunger(share)

    def plan(self, now: float) -> Round | None:
        """The round that is due, if one is. Its outcome must be told before the next call."""
        if self.away:
            return Round((), ()) if now >= self._failed_at + RETRY else None
        if now < self._round_at + SPACING:
            return None
        asks: list[Ask] = []
        askers: list[tuple[BucketShare, SlotShare | None]] = []
        for share in self._due(now):
            for slots, ask in share.asks(now):
                asks.append(ask)
                askers.append((share, slots))
            self._asked(share)
        if not asks and now < self._round_at + BEAT:
            return None
        self._round_at = now
        return Round(tuple(asks), tuple(askers))

    def next_at(self) -> float:
        """When the next round is due, if nobody gets hungry before."""
        if self.away:
            return self._failed_at + RETRY
        times = [self._round_at + BEAT, *(share.asked_at + PERIOD for share in self._hungry)]
        times += [share.asked_at + RENEW for share in itertools.islice(self._active, 1)]
        return max(min(times), self._round_at + SPACING)

    def apply(self, done: Round, answers: Answers, now: float) -> None:
        """The keeper answered."""
        before, self.replicas = self.replicas, max(1, answers.replicas)
        if self.away:
            self._return(now)
        elif self.replicas != before:
            self._size_credit()
        touched: dict[Bucket, None] = {}
        for (share, slots), ask, grant in zip(done.askers, done.asks, answers.grants, strict=True):
            share.granted(slots, ask, grant)
            touched[share.bucket] = None
        _pump(touched, now)

    def fail(self, now: float) -> None:
        """The keeper did not answer: this process is by itself."""
        self._failed_at = now
        if self.away:
            return
        self.away = True
        self._hungry.clear()
        self._active.clear()
        for gate in self._gates:
            for bucket in gate.every():
                if isinstance(bucket.share, BucketShare):
                    bucket.share.begin()
                if bucket.pinned and not bucket.busy:
                    gate.unpin(bucket)
            gate.resize(gate.schema, now)
            _pump(gate.every(), now)

    def farewell(self) -> tuple[tuple[Ask, ...], ...]:
        """Asks that give everything back, for the end of this process, in exchanges."""
        asks = [] if self.away else [give for share in self._active for give in share.give_up()]
        return tuple(tuple(asks[at : at + ASKS_MAX]) for at in range(0, len(asks), ASKS_MAX))

    def attach(self, gate: Gate) -> None:
        self._gates[gate] = None

    def detach(self, gate: Gate) -> None:
        """A gate is gone; what it leased runs out."""
        self._gates.pop(gate, None)
        for bucket in gate.every():
            if isinstance(bucket.share, BucketShare):
                self._hungry.pop(bucket.share, None)
                self._active.pop(bucket.share, None)

    def _return(self, now: float) -> None:
        self.away = False
        self._round_at = now - SPACING
        for gate in self._gates:
            gate.resize(gate.schema, now)
            for bucket in gate.every():
                if isinstance(bucket.share, BucketShare):
                    bucket.share.resume()

    def _size_credit(self) -> None:
        """Others came or went: buckets that nobody uses stand on another credit."""
        for gate in self._gates:
            for bucket in gate.every():
                if isinstance(bucket.share, BucketShare) and not bucket.share.active:
                    bucket.share.begin()

    def _due(self, now: float) -> list[BucketShare]:
        room = ASKS_MAX // _PER_BUCKET
        due = [share for share in self._hungry if share.asked_at + PERIOD <= now][:room]
        taken = set(due)
        for share in self._active:
            if len(due) >= room or share.asked_at + RENEW > now:
                break
            if share not in taken:
                due.append(share)
        return due

    def _asked(self, share: BucketShare) -> None:
        self._hungry.pop(share, None)
        self._active.pop(share, None)
        if share.active:
            self._active[share] = None
        elif share.bucket.pinned and not share.bucket.busy:
            share.bucket.gate.unpin(share.bucket)


class ClusterShares:
    """Implements `bucket.Sharing`."""

    def __init__(self, shares: Shares, cluster: str) -> None:
        self._shares, self._cluster = shares, cluster

    def attach(self, gate: Gate) -> None:
        self._shares.attach(gate)

    def detach(self, gate: Gate) -> None:
        self._shares.detach(gate)

    def join(self, bucket: Bucket, now: float) -> BucketShare:
        return BucketShare(self._shares, bucket, f"{self._cluster}/{bucket.gate.schema.name}", now)

    def supply(self, schema: Schema) -> tuple[float, float]:
        shares, burst = self._shares, burst_of(schema)
        if not shares.away:
            return 0.0, burst
        return (schema.qps or 0.0) / shares.replicas, max(1.0, burst / shares.replicas)


def _pump(buckets: Iterable[Bucket], now: float) -> None:
    for bucket in buckets:
        if bucket.queue:
            bucket.gate.pump(bucket, now)
