"""The limits of one cluster: every schema a policy names must admit a request, or none of them counts it.

Pure: time is an argument. A request that may wait stands in the queue of the bucket that lacked something and holds
nothing meanwhile; when the bucket has something again, the whole admission is tried anew, and if now another schema
lacks, the request moves into that one's queue with the time it has left. Newcomers never overtake a queue. Somebody
(`pacer.py`) calls `tick` when `on_due` says; releases move queues by themselves.

    admit (bucket empty, may wait 2 s) -> Waiting      queue: [w], on_due(1.5)
    tick(1.5)                          -> w.on_done(Ticket)
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable

from wharf.gateway.api.shapes import Schema
from wharf.gateway.limits.bucket import Bucket, Sharing
from wharf.gateway.limits.gate import Gate, SchemaCounts
from wharf.gateway.limits.outcome import FREE, Cause, Refused, Ticket, Who
from wharf.gateway.limits.waiting import Waiting


class Limiter:
    """`sharing` connects the buckets of GLOBAL schemas with those of other processes; without, they are local."""

    def __init__(self, schemas: Iterable[Schema], now: float, sharing: Sharing | None = None) -> None:
        self.on_due: Callable[[float], None] | None = None  # a time at which `tick` is to be called, at the latest
        self._sharing = sharing
        self._gates: dict[str, Gate] = {}
        self._dues: list[tuple[float, int, Bucket]] = []
        self._order = itertools.count()
        self.update(schemas, now)

    def update(self, schemas: Iterable[Schema], now: float) -> None:
        """Take over other schemas at once. Numbers change in place; another kind of limit begins anew.

        Tickets stay valid; who waits in what is gone tries again with what there is now.
        """
        before, self._gates = self._gates, {}
        lost: list[Gate] = []
        for schema in schemas:
            gate = before.pop(schema.name, None)
            if gate is not None and gate.fits(schema):
                gate.resize(schema, now)
            else:
                old, gate = gate, Gate(schema, now, self._pump, self._sharing)
                if old is not None:
                    lost.append(old)
                    gate.admitted, gate.refused = old.admitted, old.refused
            self._gates[schema.name] = gate
        for gone in (*lost, *before.values()):
            gone.close()
            for bucket in gone.every():
                while bucket.queue:
                    self._step_on(bucket.queue[0], now)
        for gate in self._gates.values():
            for bucket in gate.every():
                if bucket.queue:
                    self._pump(bucket, now)

    def admit(
        self, names: tuple[str, ...], who: Who, long_running: bool, cost: float, now: float
    ) -> Ticket | Refused | Waiting:
        """`names`: schemas, all of which must admit; an unknown one (just removed) limits nothing. `cost`: tokens."""
        if len(names) == 1:
            gate = self._gates.get(names[0])
            if gate is None:
                return FREE
            bucket = gate.single or gate.find(who, now)
            cause = Cause.QUEUE if bucket.queue else bucket.take(cost, long_running, now)
            if cause is None:
                gate.admitted += 1
                return bucket.ticket(long_running)
            blocked = bucket, cause
        else:
            outcome = self._attempt(names, who, long_running, cost, now, None)
            if isinstance(outcome, Ticket):
                return outcome
            blocked = outcome
        return self._put_off(names, who, long_running, cost, now, *blocked)

    def tick(self, now: float) -> None:
        """Look at the queues that are due."""
        while self._dues and self._dues[0][0] <= now:
            due, _, bucket = heapq.heappop(self._dues)
            if due == bucket.due:
                bucket.due = math.inf
                self._pump(bucket, now)

    @property
    def next_due(self) -> float | None:
        """When `tick` is to be called next."""
        return self._dues[0][0] if self._dues else None

    def counts(self) -> tuple[SchemaCounts, ...]:
        """What stands in each schema."""
        return tuple(gate.counts() for gate in self._gates.values())

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(self._gates.values())

    def _attempt(
        self, names: tuple[str, ...], who: Who, long_running: bool, cost: float, now: float, waiting: Waiting | None
    ) -> Ticket | tuple[Bucket, Cause]:
        """All schemas or none."""
        taken: list[Bucket] = []
        for name in names:
            gate = self._gates.get(name)
            if gate is None:
                continue
            bucket = gate.single or gate.find(who, now)
            cause = Cause.QUEUE if _behind(bucket, waiting) else bucket.take(cost, long_running, now)
            if cause is not None:
                for one in taken:
                    one.put_back(cost, long_running)
                return bucket, cause
            taken.append(bucket)
        for one in taken:
            one.gate.admitted += 1
        return Ticket.joined([one.ticket(long_running) for one in taken])

    def _put_off(
        self,
        names: tuple[str, ...],
        who: Who,
        long_running: bool,
        cost: float,
        now: float,
        bucket: Bucket,
        cause: Cause,
    ) -> Refused | Waiting:
        gate = bucket.gate
        if len(bucket.queue) >= gate.queue_max:
            return self._refused(bucket, cause, cost, now)
        waiting = Waiting(names, who, long_running, cost, now + gate.wait_seconds)
        waiting.enter(bucket)
        self._schedule(bucket, now)
        return waiting

    def _pump(self, bucket: Bucket, now: float) -> None:
        """Let those go whose turn has come or whose time is over, first come first served."""
        if bucket.pumping:  # an outcome's callback gave something back: the loop below will see it
            return
        bucket.pumping = True
        try:
            while bucket.queue and self._step_on(bucket.queue[0], now):
                pass
        finally:
            bucket.pumping = False
        if bucket.queue:
            self._schedule(bucket, now)
        elif bucket.pinned and not bucket.busy:
            bucket.gate.unpin(bucket)

    def _step_on(self, waiting: Waiting, now: float) -> bool:
        """Try for the first of a queue; False when it has to stay there."""
        here = waiting.bucket
        outcome: Ticket | Refused
        if here is not None and waiting.deadline <= now:
            outcome = self._refused(here, Cause.WAITED, waiting.cost, now)
        else:
            tried = self._attempt(waiting.names, waiting.who, waiting.long_running, waiting.cost, now, waiting)
            if isinstance(tried, Ticket):
                outcome = tried
            elif tried[0] is here:
                return False
            elif len(tried[0].queue) < tried[0].gate.queue_max:
                waiting.leave()
                waiting.enter(tried[0])
                self._schedule(tried[0], now)
                return True
            else:
                outcome = self._refused(*tried, waiting.cost, now)
        waiting.leave()
        waiting.decide(outcome)
        return True

    def _refused(self, bucket: Bucket, cause: Cause, cost: float, now: float) -> Refused:
        gate = bucket.gate
        gate.refuse(cause)
        return Refused(gate.schema.name, bucket.retry_after(cause, cost, now), cause)

    def _schedule(self, bucket: Bucket, now: float) -> None:
        head = bucket.queue[0]
        due = min(head.deadline, self._ready_at(bucket, head, now))
        if due < bucket.due:
            bucket.due = due
            heapq.heappush(self._dues, (due, next(self._order), bucket))
            if self.on_due is not None:
                self.on_due(due)

    @staticmethod
    def _ready_at(bucket: Bucket, head: Waiting, now: float) -> float:
        ready = bucket.due_for(head.cost, now)
        return ready if ready > now else math.inf  # not for want of tokens: a release will tell


def _behind(bucket: Bucket, waiting: Waiting | None) -> bool:
    """Whether others come first. By deadlines, so that a request of two queues cannot be sent to and fro."""
    if not bucket.queue:
        return False
    head = bucket.queue[0]
    return waiting is None or (head is not waiting and head.deadline <= waiting.deadline)
