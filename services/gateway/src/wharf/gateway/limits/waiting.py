"""A request that waits for its turn.

It holds nothing while it waits, so that cancelling it can leak nothing. Invariant: it is decided exactly once; a
cancelled one is never told, and gives back at once what it had been given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wharf.gateway.limits.outcome import Refused, Ticket, Who

if TYPE_CHECKING:
    from wharf.gateway.limits.bucket import Bucket

Outcome = Ticket | Refused


class Waiting:
    """Neither admitted nor refused yet: `on_done` is called once with what it becomes, unless it is cancelled."""

    __slots__ = ("bucket", "cost", "deadline", "long_running", "names", "on_done", "outcome", "who")

    def __init__(self, names: tuple[str, ...], who: Who, long_running: bool, cost: float, deadline: float) -> None:
        self.names, self.who, self.long_running, self.cost = names, who, long_running, cost
        self.deadline = deadline
        self.bucket: Bucket | None = None  # whose queue it stands in
        self.outcome: Outcome | None = None
        self.on_done: Callable[[Outcome], None] | None = None

    def cancel(self, now: float) -> None:
        """The client is gone. Right at any time and any number of times."""
        if isinstance(self.outcome, Ticket):
            self.outcome.release(now)
        bucket, self.bucket = self.bucket, None
        if bucket is not None:
            bucket.queue.remove(self)
            bucket.freed(now)

    def decide(self, outcome: Outcome) -> None:
        """Called by the limiter once it stands in no queue any more."""
        self.outcome = outcome
        if self.on_done is not None:
            self.on_done(outcome)

    def enter(self, bucket: Bucket) -> None:
        """Stand in the queue of `bucket`, before those that may wait longer."""
        self.bucket, queue = bucket, bucket.queue
        place = len(queue)
        while place and queue[place - 1].deadline > self.deadline:
            place -= 1
        queue.insert(place, self)

    def leave(self) -> None:
        """Step out of the queue's head."""
        bucket, self.bucket = self.bucket, None
        if bucket is not None:
            bucket.queue.popleft()
