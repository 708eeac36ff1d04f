"""Several processes that share limits, one keeper, and a clock the test moves: no sockets, no sleeping."""

from __future__ import annotations

from collections.abc import Sequence

from wharf.gateway.api.shapes import Schema
from wharf.gateway.limits.ledger import Ledger
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import NOBODY, Refused, Ticket, Who
from wharf.gateway.limits.shares import Shares
from wharf.gateway.limits.waiting import Waiting

STEP = 0.01  # seconds


class Process:
    """One gateway process."""

    def __init__(self, name: str, schemas: Sequence[Schema], replicas: int, now: float) -> None:
        self.name = name
        self.shares = Shares(replicas)
        self.limiter = Limiter(schemas, now, self.shares.of("c"))
        self.exchanges = 0
        self.asks = 0

    def exchange(self, ledger: Ledger | None, now: float) -> None:
        """Do the round that is due, if any; without a ledger it fails."""
        due = self.shares.plan(now)
        if due is None:
            return
        self.exchanges += 1
        self.asks += len(due.asks)
        if ledger is None:
            self.shares.fail(now)
        else:
            self.shares.apply(due, ledger.answer(self.name, due.asks, now), now)


class World:
    """`reachable` False: the keeper is away, for all."""

    def __init__(self, processes: int, *schemas: Schema, replicas: int = 1) -> None:
        self.now = 1000.0
        self.ledger = Ledger()
        self.reachable = True
        self.schemas = schemas
        self.processes = [Process(f"p{at}", schemas, replicas, self.now) for at in range(processes)]
        self.admitted_at: list[float] = []
        self.step()

    def step(self, steps: int = 1) -> None:
        """Let time pass; every process exchanges what is due."""
        for _ in range(steps):
            self.now += STEP
            for process in self.processes:
                process.limiter.tick(self.now)
                process.exchange(self.ledger if self.reachable else None, self.now)

    def ask(
        self, process: int = 0, schema: str = "a", *, who: Who = NOBODY, long_running: bool = False, cost: float = 1.0
    ) -> Ticket | Refused | Waiting:
        limiter = self.processes[process].limiter
        outcome = limiter.admit((schema,), who, long_running, cost, self.now)
        if isinstance(outcome, Ticket):
            self.admitted_at.append(self.now)
        return outcome

    def flood(self, process: int, steps: int, requests: int) -> int:
        """So many requests at each step; how many were admitted."""
        admitted = 0
        for _ in range(steps):
            admitted += sum(isinstance(self.ask(process), Ticket) for _ in range(requests))
            self.step()
        return admitted

    def most_in(self, seconds: float) -> int:
        """The most admissions in any time so long."""
        times, first, most = self.admitted_at, 0, 0
        for last, at in enumerate(times):
            while times[first] < at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most
