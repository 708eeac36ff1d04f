"""A world of nodes that stand for election while everything goes wrong, for tests of `wharf.common.lease`.

Nodes have clocks of different speed and freeze; requests are carried out late, or after their sender has given up; the
lease server forgets the lease, forgets everything, or falls back to an earlier state; the engine, which only counts
fences, takes its time. All times are true ones unless a node's clock is asked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from wharf.common.lease import DRIFT, Record, Seen, Tenure, Won

TTL_MS = 3000
_TTL = TTL_MS / 1000
_RENEW_AFTER = 0.8
_LOOK_AFTER = 0.05
_MOST_STATES = 64


@dataclass
class LeaseServer:
    """What Redis does."""

    holder: str | None = None
    expires: float = 0.0
    record: Record | None = None
    past: list[tuple[str | None, float, Record | None]] = field(default_factory=list)

    def execute(self, kind: str, record: Record, now: float) -> Answer:
        if self.holder is not None and now >= self.expires:
            self.holder = None
        found, free = self.record, self.holder is None
        mine = self.holder == record.holder
        if kind == "look" or not (mine or (kind == "acquire" and free)):
            return Answer(False, found, free)
        self.past = [*self.past[-_MOST_STATES:], (self.holder, self.expires, self.record)]
        if kind == "acquire":
            record = replace(record, ttl_ms=max(TTL_MS, 0 if found is None else found.ttl_ms))
        self.record = record
        self.holder, self.expires = (None, 0.0) if kind == "release" else (record.holder, now + _TTL)
        return Answer(True, found, free)


@dataclass
class Answer:
    granted: bool
    found: Record | None
    free: bool  # the lease, before


@dataclass
class Request:
    kind: str
    record: Record
    sent_at: float  # by the sender's clock
    answer: Answer | None = None


@dataclass
class Promotion:
    """The engine has raised the fence, and says so at `told_at`."""

    holder: str
    epoch: int
    previous_ms: int
    told_at: float


@dataclass
class Node:
    name: str
    rate: float
    attempts: int = 0
    frozen_until: float = 0.0
    asked_at: float = -9.0
    seen: Seen = field(default_factory=Seen)
    free: bool = False
    tenure: Tenure | None = None
    request: Request | None = None
    promotion: Promotion | None = None

    def clock(self, now: float) -> float:
        return 1000.0 + now * self.rate

    def leads(self, now: float) -> bool:
        return self.tenure is not None and self.tenure.may_lead(self.clock(now))


class World:
    """`step` moves time on a little and lets each node do what it would do next, or something go wrong."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.server = LeaseServer()
        self.epoch, self.kept_ms = 0, 0  # the fence, and what its raiser said of itself
        rates = [1 - DRIFT, 1.0, 1 + DRIFT]
        self.random.shuffle(rates)
        self.nodes = [Node(f"n{number}", rate) for number, rate in enumerate(rates)]
        self.late: list[Request] = []  # given up by their senders, not yet carried out
        self.terms = 0  # times somebody began to lead

    def leaders(self) -> list[str]:
        return [node.name for node in self.nodes if node.leads(self.now)]

    def step(self) -> None:
        self.now += self.random.choice((0.001, 0.01, 0.03, 0.05))
        self._misfortune()
        for node in self.nodes:
            if node.frozen_until <= self.now:
                before = node.leads(self.now)
                self._act(node)
                self.terms += node.leads(self.now) and not before

    # --- what nodes do -------------------------------------------------------------------------------------------

    def _act(self, node: Node) -> None:
        clock = node.clock(self.now)
        if node.tenure is not None and not node.tenure.holds(clock):
            node.tenure = None
        if node.promotion is not None and self.now >= node.promotion.told_at:
            self._promoted(node, node.promotion)
        if node.request is not None:
            self._go_on(node, node.request)
        elif node.tenure is None:
            self._stand(node)
        else:
            self._lead(node, node.tenure)

    def _stand(self, node: Node) -> None:
        if node.free:
            node.free = False
            node.attempts += 1
            self._send(node, "acquire", Record(f"{node.name}/{node.attempts}", "", 0, TTL_MS))
        elif self.now - node.asked_at >= _LOOK_AFTER:
            self._send(node, "look", Record(node.name, "", 0, TTL_MS))

    def _lead(self, node: Node, tenure: Tenure) -> None:
        clock = node.clock(self.now)
        if tenure.record.epoch == 0 and node.promotion is None and self.random.random() < 0.3:
            took = self.random.choice((0.0, 0.0, 0.01, 0.5, 4.0))
            node.promotion = Promotion(tenure.record.holder, self.epoch + 1, self.kept_ms, self.now + took)
            self.epoch, self.kept_ms = self.epoch + 1, TTL_MS
        unconfirmed = tenure.record.epoch > 0 and not tenure.confirmed
        if self.random.random() < 0.002:
            node.tenure = None
            self._send(node, "release", tenure.refused().farewell(clock))
        elif unconfirmed or self.now - node.asked_at >= _RENEW_AFTER:
            node.tenure = tenure.next(clock)
            self._send(node, "renew", node.tenure.record)

    def _send(self, node: Node, kind: str, record: Record) -> None:
        node.asked_at = self.now
        node.request = Request(kind, record, node.clock(self.now))

    def _go_on(self, node: Node, request: Request) -> None:
        luck = self.random.random()
        if luck < 0.01:
            self._give_up(node)
        elif luck < 0.8 and request.answer is None:
            request.answer = self.server.execute(request.kind, request.record, self.now)
        elif luck < 0.8 and request.answer is not None:
            node.request = None
            self._take(node, request, request.answer)

    def _take(self, node: Node, request: Request, answer: Answer) -> None:
        clock, tenure = node.clock(self.now), node.tenure
        if request.kind == "look":
            node.seen, node.free = node.seen.observe(answer.found, clock), answer.free
        elif request.kind == "acquire" and answer.granted:
            node.tenure = Tenure.begin(request.record, Won(answer.found, request.sent_at, clock), node.seen)
        elif request.kind == "renew" and tenure is not None:
            node.tenure = tenure.renewed(request.sent_at, clock) if answer.granted else None

    def _promoted(self, node: Node, told: Promotion) -> None:
        node.promotion = None
        if node.tenure is not None and node.tenure.record.holder == told.holder:
            node.tenure = node.tenure.promoted(told.epoch, told.previous_ms, node.clock(self.now))

    def _give_up(self, node: Node) -> None:
        """The connection is closed; what was asked may have been carried out, or will be, or never."""
        if node.request is not None and node.request.answer is None and self.random.random() < 0.5:
            self.late.append(node.request)
        node.request = None
        node.seen = node.seen.lost_contact()

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _misfortune(self) -> None:
        if self.random.random() < 0.98:
            return
        kind = self.random.randrange(6)
        if kind == 0:
            self.server.holder = None  # its clock is fast, or it was short of memory
        elif kind == 1:
            self.server.holder = self.server.record = None
        elif kind in (2, 3) and self.server.past:
            self._fall_back(lease_too=kind == 2)
        elif kind == 4:
            frozen = self.random.choice(self.nodes)
            frozen.frozen_until = self.now + self.random.choice((0.3, 1.0, 2.5, 3.0, 5.0))
        elif self.late:
            request = self.late.pop()
            self.server.execute(request.kind, request.record, self.now)

    def _fall_back(self, lease_too: bool) -> None:
        """It comes back with an earlier state, the lease perhaps run out; every connection breaks."""
        holder, expires, record = self.random.choice(self.server.past)
        self.server.holder, self.server.expires, self.server.record = holder if lease_too else None, expires, record
        self.late.clear()
        for node in self.nodes:
            self._give_up(node)
        self.late.clear()
