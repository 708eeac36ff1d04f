"""One bucket: the tokens and slots of one schema for one value of its key. Pure; time is an argument.

Tokens refill at the gate's rate up to its burst. A request that costs more than the burst is admitted by a full bucket
and leaves it in debt, so that the mean rate holds for large requests too. In a schema that is shared between processes
the rate may be 0: then tokens and slots come from `Share`, which is told of every use.

Long-running requests are counted apart in any case. By the schema's watch class they need only a place among
themselves; or tokens and a free slot, which they do not keep; or what any request needs, for as long as they last.

Invariant: `used` never passes `limit` by admission; a limit that shrinks below it admits nothing until enough is given
back.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from wharf.gateway.limits.outcome import FREE, Cause, Ticket

if TYPE_CHECKING:
    from wharf.gateway.api.shapes import Schema
    from wharf.gateway.limits.gate import Gate
    from wharf.gateway.limits.waiting import Waiting

EPSILON: Final = 1e-6  # tokens; what a float of seconds may lose on a machine that is up for months
IN_FLIGHT_RETRY: Final = 1  # seconds; when a slot comes free nobody can tell
WATCHES_RETRY: Final = 5  # seconds; watches end seldom
RETRY_MAX: Final = 3600  # seconds


class Share(Protocol):
    """Hears of the use of a bucket that is filled from elsewhere."""

    @property
    def active(self) -> bool:
        """Whether the bucket must be kept for its sake."""

    def spent(self, tokens: float, now: float) -> None:
        """A request was admitted."""

    def missed(self, cause: Cause, tokens: float, now: float) -> None:
        """A request found too little."""

    def returned(self, tokens: float) -> None:
        """An admission was taken back at once."""

    def resized(self) -> None:
        """The gate has other numbers: set the limits of the slots."""


class Sharing(Protocol):
    """Whoever fills buckets from elsewhere."""

    def attach(self, gate: Gate) -> None:
        """A gate is there; its buckets will join."""

    def detach(self, gate: Gate) -> None:
        """It is gone, and they with it."""

    def join(self, bucket: Bucket, now: float) -> Share:
        """A bucket was made: set what it begins with."""

    def supply(self, schema: Schema) -> tuple[float, float]:
        """Tokens a second by which buckets refill by themselves, and how many they hold at most."""


def burst_of(schema: Schema) -> float:
    """Tokens a bucket holds; without a burst in the document a second's worth."""
    return float(schema.burst or max(1, math.ceil(schema.qps or 0.0)))


class Slots:
    """Requests at once."""

    __slots__ = ("bucket", "limit", "used")

    def __init__(self, bucket: Bucket, limit: float) -> None:
        self.bucket = bucket
        self.limit = limit
        self.used = 0

    def give(self, now: float) -> None:
        """One of them is over."""
        self.used -= 1
        self.bucket.freed(now)


class Bucket:
    """What one gate counts for one key."""

    __slots__ = ("due", "gate", "in_flight", "key", "pinned", "pumping", "queue", "share", "stamp", "tokens", "watches")

    def __init__(self, gate: Gate, key: str, now: float) -> None:
        self.gate, self.key = gate, key
        self.tokens, self.stamp = gate.burst, now
        self.in_flight = Slots(self, gate.slots)
        self.watches = Slots(self, gate.watch_slots)
        self.queue: deque[Waiting] = deque()
        self.due = math.inf  # when the queue is to be looked at next, at the latest
        self.pinned = False  # evicted, but kept for what is still going on
        self.pumping = False
        self.share: Share | None = None

    @property
    def busy(self) -> bool:
        """Whether forgetting it would lose count of something."""
        going = self.in_flight.used or self.watches.used or self.queue
        return bool(going) or (self.share is not None and self.share.active)

    def refill(self, now: float) -> float:
        """The tokens there are now."""
        elapsed = now - self.stamp
        if elapsed > 0:
            gate = self.gate
            self.stamp = now
            self.tokens = min(self.tokens + elapsed * gate.rate, gate.burst)
        return self.tokens

    def take(self, cost: float, long_running: bool, now: float) -> Cause | None:
        """Take what a request needs, or say what is missing and take nothing."""
        gate, cause = self.gate, None
        if long_running and gate.separate:
            if self.watches.used < self.watches.limit:
                self.watches.used += 1
            else:
                cause = Cause.WATCHES
            cost = 0.0
        elif gate.rated and self.refill(now) < min(cost, gate.burst) - EPSILON:
            cause = Cause.RATE
        elif gate.counted and self.in_flight.used >= self.in_flight.limit:
            cause = Cause.IN_FLIGHT
        else:
            if gate.rated:
                self.tokens -= cost
            if long_running:
                self.watches.used += 1
            if gate.counted and not (long_running and gate.start_only):
                self.in_flight.used += 1
        if self.share is not None:
            if cause is None:
                self.share.spent(cost, now)
            else:
                self.share.missed(cause, cost, now)
        return cause

    def put_back(self, cost: float, long_running: bool) -> None:
        """Undo a `take` of this moment: another schema refused."""
        gate = self.gate
        if long_running:
            self.watches.used -= 1
            if gate.separate:
                return
        if gate.rated:
            self.tokens += cost
        if gate.counted and not (long_running and gate.start_only):
            self.in_flight.used -= 1
        if self.share is not None:
            self.share.returned(cost)

    def ticket(self, long_running: bool) -> Ticket:
        """For what `take` took."""
        gate = self.gate
        if not long_running:
            return Ticket((self.in_flight,)) if gate.counted else FREE
        holds_both = gate.counted and not gate.separate and not gate.start_only
        return Ticket((self.watches, self.in_flight)) if holds_both else Ticket((self.watches,))

    def freed(self, now: float) -> None:
        """Something was given back."""
        if self.queue:
            self.gate.pump(self, now)
        if self.pinned and not self.busy:
            self.gate.unpin(self)

    def due_for(self, cost: float, now: float) -> float:
        """When a request of this cost finds enough tokens, if nobody comes before it; `inf` when nobody can tell."""
        gate = self.gate
        missing = min(cost, gate.burst) - self.refill(now)
        if missing <= EPSILON or not gate.rated:
            return now
        return max(now + missing / gate.rate, math.nextafter(now, math.inf)) if gate.rate > 0 else math.inf

    def retry_after(self, cause: Cause, cost: float, now: float) -> int:
        """Whole seconds, at least 1, after which to come back."""
        if cause is Cause.WATCHES:
            return WATCHES_RETRY
        gate = self.gate
        if not gate.rated:
            return IN_FLIGHT_RETRY
        missing = min(cost, gate.burst) - self.refill(now) + len(self.queue)
        if missing <= 0:
            return IN_FLIGHT_RETRY
        return max(1, math.ceil(min(missing / gate.pace - EPSILON, RETRY_MAX))) if gate.pace > 0 else RETRY_MAX
