"""What the lease lets nodes believe: each rule by itself, and all of them together where everything goes wrong.

The world has nodes with clocks of different speed, a lease server that expires early, is wiped or falls back to an
earlier state, requests that are carried out long after their sender has given up, and an engine that only counts
fences. In it nobody may lead while somebody else does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from wharf.common.lease import (
    DRIFT,
    MAX_TEXT,
    MAX_TTL_MS,
    BadRecord,
    Record,
    Seen,
    Tenure,
    Won,
    encode_record,
    lead_from,
    parse_record,
)

TTL_MS = 3000
TTL = 3.0
OLD = Record("old/1", "127.0.0.1:1", 7, TTL_MS, epoch=4)
NEW = Record("new/1", "127.0.0.1:2", 0, TTL_MS)


def full(since: float, seconds: float = TTL) -> float:
    return since + seconds * (1 + DRIFT)


# --- each rule -------------------------------------------------------------------------------------------------------


def test_a_holder_believes_from_before_it_sent() -> None:
    tenure = Tenure.begin(NEW, Won(None, sent_at=10.0, received_at=11.0), Seen())
    assert tenure.until == 10.0 + TTL * (1 - DRIFT)
    assert tenure.renewed(sent_at=12.0, received_at=12.5).until == 12.0 + TTL * (1 - DRIFT)
    assert tenure.renewed(sent_at=9.0, received_at=12.0).until == tenure.until


def test_a_belief_that_was_over_stays_over() -> None:
    tenure = Tenure.begin(NEW, Won(None, 10.0, 11.0), Seen())
    late = tenure.renewed(sent_at=12.9, received_at=13.0)
    assert not late.holds(13.0)
    assert not late.renewed(13.0, 13.1).holds(13.2)
    assert not tenure.refused().renewed(11.0, 11.1).holds(11.2)


def test_it_leads_only_after_the_wait_and_a_renewal_sent_after_its_promotion() -> None:
    tenure = Tenure.begin(NEW, Won(None, 10.0, 10.0), Seen()).promoted(1, 0, now=10.5)
    assert not tenure.may_lead(10.6)
    assert not tenure.renewed(10.4, 10.6).may_lead(10.7)
    assert tenure.renewed(10.6, 10.7).may_lead(10.7)
    assert not tenure.renewed(10.6, 10.7).promoted(2, TTL_MS, now=11.0).may_lead(11.1)
    waits = Tenure.begin(NEW, Won(OLD, 10.0, 10.0), Seen()).promoted(5, TTL_MS, now=10.5)
    for sent in (11.0, 12.0, 13.0):
        waits = waits.renewed(sent, sent)
    assert not waits.may_lead(full(10.0) - 0.001)
    assert waits.may_lead(full(10.0))


@pytest.mark.parametrize(
    ("found", "seen", "previous_ms", "expected"),
    [
        (None, Seen(), 0, 20.0),  # there never was a leader
        (None, Seen(), TTL_MS, full(20.0)),  # wiped
        (None, Seen(None, 15.0), TTL_MS, full(20.0)),  # seen missing is not seen unchanged
        (OLD, Seen(), TTL_MS, full(20.0)),  # never seen before
        (OLD, Seen(replace(OLD, counter=6), 15.0), TTL_MS, full(20.0)),  # changed
        (OLD, Seen(OLD, 18.0), TTL_MS, full(18.0)),  # unchanged since
        (OLD, Seen(OLD, 18.0), 5000, full(18.0, 5.0)),  # somebody before it may believe longer
        (replace(OLD, ttl_ms=9000), Seen(), TTL_MS, full(20.0, 9.0)),
        (replace(OLD, released=True), Seen(), TTL_MS, 20.0),  # handed over, by the holder of the newest fence
        (replace(OLD, released=True, epoch=3), Seen(), TTL_MS, full(20.0)),  # by somebody long before
    ],
)
def test_how_long_a_successor_waits(found: Record | None, seen: Seen, previous_ms: int, expected: float) -> None:
    assert lead_from(Won(found, 19.0, 20.0), seen, 5, previous_ms) == expected


def test_what_was_seen_counts_from_when_it_was_first_seen_and_only_in_unbroken_contact() -> None:
    seen = Seen().observe(OLD, 10.0).observe(OLD, 11.0)
    assert seen == Seen(OLD, 10.0)
    assert seen.observe(replace(OLD, counter=8), 12.0) == Seen(replace(OLD, counter=8), 12.0)
    assert seen.observe(None, 12.0).observe(OLD, 13.0) == Seen(OLD, 13.0)
    assert seen.lost_contact().observe(OLD, 13.0) == Seen(OLD, 13.0)


def test_no_two_renewals_look_alike_and_the_record_promises_the_longest_belief() -> None:
    tenure = Tenure.begin(NEW, Won(replace(OLD, ttl_ms=9000), 10.0, 10.0), Seen())
    first = tenure.next(10.1)
    second = first.promoted(5, 12_000, 10.2).next(10.3)
    third = second.next(full(10.0, 12.0))
    assert [one.record.counter for one in (tenure, first, second, third)] == [0, 1, 2, 3]
    assert [one.record.ttl_ms for one in (tenure, first, second, third)] == [9000, 9000, 12_000, TTL_MS]
    assert [one.record.epoch for one in (first, second, third)] == [0, 5, 5]


def test_only_who_has_outwaited_those_before_calls_the_lease_released() -> None:
    tenure = Tenure.begin(NEW, Won(OLD, 10.0, 10.0), Seen())
    assert not tenure.refused().farewell(100.0).released
    promoted = tenure.promoted(5, TTL_MS, 10.5).refused()
    assert not promoted.farewell(full(10.0) - 0.001).released
    farewell = promoted.farewell(full(10.0))
    assert (farewell.released, farewell.epoch, farewell.counter) == (True, 5, 1)


# --- records ---------------------------------------------------------------------------------------------------------

numbers = st.integers(0, 2**53 - 1)
records = st.builds(
    Record,
    holder=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    address=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    counter=numbers,
    ttl_ms=st.integers(1, MAX_TTL_MS),
    released=st.booleans(),
    epoch=numbers,
)


@given(records)
def test_a_record_survives_its_encoding(record: Record) -> None:
    assert parse_record(encode_record(record)) == record


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        parse_record(data)
    except BadRecord:
        return


@pytest.mark.parametrize(
    "change",
    [
        {"holder": ""},
        {"holder": "x" * (MAX_TEXT + 1)},
        {"holder": 1},
        {"address": None},
        {"address": "x" * (MAX_TEXT + 1)},
        {"counter": -1},
        {"counter": True},
        {"counter": 1.0},
        {"counter": 2**53},
        {"ttl_ms": 0},
        {"ttl_ms": MAX_TTL_MS + 1},
        {"released": 0},
        {"epoch": -1},
        {"more": 1},
    ],
)
def test_a_record_is_read_strictly(change: dict[str, object]) -> None:
    fields = json.loads(encode_record(OLD))
    with pytest.raises(BadRecord):
        parse_record(json.dumps(fields | change).encode())
    for name in fields:
        with pytest.raises(BadRecord):
            parse_record(json.dumps({key: value for key, value in fields.items() if key != name}).encode())


# --- all of them together --------------------------------------------------------------------------------------------


@dataclass
class LeaseServer:
    """What Redis does, with the true time instead of its own."""

    holder: str | None = None
    expires: float = 0.0
    record: Record | None = None
    past: list[tuple[str | None, float, Record | None]] = field(default_factory=list)

    def execute(self, kind: str, record: Record, now: float) -> tuple[bool, Record | None]:
        """Whether it was granted, and the record before."""
        self.past.append((self.holder, self.expires, self.record))
        found = self.record
        if self.holder is not None and now >= self.expires:
            self.holder = None
        mine = self.holder == record.holder
        if kind == "look" or not (mine or (kind == "acquire" and self.holder is None)):
            return False, found
        if kind == "acquire":
            record = replace(record, ttl_ms=max(TTL_MS, 0 if found is None else found.ttl_ms))
        self.record = record
        self.holder, self.expires = (None, 0.0) if kind == "release" else (record.holder, now + TTL)
        return True, found


@dataclass
class Request:
    kind: str
    record: Record
    sent_at: float
    answer: tuple[bool, Record | None] | None = None


@dataclass
class Node:
    """A candidate or holder; at most one request and one promotion of it are under way."""

    name: str
    rate: float
    attempts: int = 0
    seen: Seen = field(default_factory=Seen)
    tenure: Tenure | None = None
    request: Request | None = None
    promotion: tuple[str, int, int] | None = None  # for which holder, epoch, what the holder before believes

    def clock(self, now: float) -> float:
        return 1000.0 + now * self.rate

    def leads(self, now: float) -> bool:
        return self.tenure is not None and self.tenure.may_lead(self.clock(now))


NODES = range(3)
nodes = st.sampled_from(NODES)
rates = st.sampled_from([1 - DRIFT, 1 - DRIFT / 2, 1.0, 1 + DRIFT])
steps = st.sampled_from([0.001, 0.1, 0.5, 1.0, 1.45, 2.9, 2.98, 3.0, 3.1])


class World(RuleBasedStateMachine):
    """Rules are what may happen next; all times are true ones."""

    @initialize(speeds=st.tuples(rates, rates, rates))
    def begin(self, speeds: tuple[float, float, float]) -> None:
        self.now = 0.0
        self.server = LeaseServer()
        self.epoch, self.kept_ms = 0, 0  # the engine's fence, and what its raiser said of itself
        self.nodes = [Node(f"n{number}", rate) for number, rate in enumerate(speeds)]
        self.late: list[Request] = []  # sent and given up, not yet carried out

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes:
            if node.tenure is not None and not node.tenure.holds(node.clock(self.now)):
                node.tenure = None

    @rule(number=nodes)
    def send(self, number: int) -> None:
        """What the node would ask next: a renewal while it has the lease, else a look or the lease."""
        node = self.nodes[number]
        if node.request is None and node.tenure is not None:
            self._send_renewal(node)

    @rule(number=nodes, kind=st.sampled_from(["look", "acquire"]))
    def stand(self, number: int, kind: str) -> None:
        node = self.nodes[number]
        if node.request is None and node.tenure is None:
            node.attempts += kind == "acquire"
            record = Record(f"{node.name}/{node.attempts}", "", 0, TTL_MS)
            node.request = Request(kind, record, node.clock(self.now))

    @rule(number=nodes)
    def resign(self, number: int) -> None:
        node = self.nodes[number]
        if node.request is None and node.tenure is not None:
            farewell = node.tenure.refused().farewell(node.clock(self.now))
            node.request = Request("release", farewell, node.clock(self.now))
            node.tenure = None

    @rule(number=nodes)
    def carried_out(self, number: int) -> None:
        request = self.nodes[number].request
        if request is not None and request.answer is None:
            request.answer = self.server.execute(request.kind, request.record, self.now)

    @rule(number=nodes)
    def answered(self, number: int) -> None:
        node = self.nodes[number]
        if (request := node.request) is not None and request.answer is not None:
            node.request = None
            granted, found = request.answer
            self._take(node, request, granted, found)

    @rule(number=nodes)
    def promptly(self, number: int) -> None:
        """Sent, carried out and answered within a moment."""
        self.send(number)
        self.carried_out(number)
        self.answered(number)

    @rule(number=nodes)
    def elected(self, number: int) -> None:
        """A whole election without trouble, if the lease is free."""
        for _ in range(2):
            self.stand(number, "look")
            self.carried_out(number)
            self.answered(number)
        self.stand(number, "acquire")
        self.carried_out(number)
        self.answered(number)
        self.engine_promotes(number)
        self.promoted(number)
        self.promptly(number)

    @rule(number=nodes, still_to_come=st.booleans())
    def given_up(self, number: int, still_to_come: bool) -> None:
        """The connection is closed; the request may have been carried out, or will be, or never."""
        node = self.nodes[number]
        if node.request is not None:
            if node.request.answer is None and still_to_come:
                self.late.append(node.request)
            node.request = None
        node.seen = node.seen.lost_contact()

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 9))
    def carried_out_late(self, which: int) -> None:
        request = self.late.pop(which % len(self.late))
        self.server.execute(request.kind, request.record, self.now)

    @rule(number=nodes)
    def engine_promotes(self, number: int) -> None:
        node = self.nodes[number]
        if node.tenure is not None and node.promotion is None and node.tenure.record.epoch == 0:
            node.promotion = (node.tenure.record.holder, self.epoch + 1, self.kept_ms)
            self.epoch, self.kept_ms = self.epoch + 1, TTL_MS

    @rule(number=nodes)
    def promoted(self, number: int) -> None:
        node = self.nodes[number]
        if node.promotion is not None:
            (holder, epoch, previous), node.promotion = node.promotion, None
            if node.tenure is not None and node.tenure.record.holder == holder:
                node.tenure = node.tenure.promoted(epoch, previous, node.clock(self.now))

    @rule()
    def expires_early(self) -> None:
        self.server.holder = None

    @rule()
    def wiped(self) -> None:
        self.server.holder = self.server.record = None

    @rule(back=st.integers(1, 6))
    def falls_back(self, back: int) -> None:
        """It restarts with an earlier state; everybody's connection breaks."""
        if self.server.past:
            self.server.holder, self.server.expires, self.server.record = self.server.past[-back:][0]
            self.late.clear()
            for number in NODES:
                self.given_up(number, still_to_come=False)

    @invariant()
    def one_leads(self) -> None:
        if hasattr(self, "nodes"):
            leaders = [node.name for node in self.nodes if node.leads(self.now)]
            assert len(leaders) <= 1, leaders

    def _send_renewal(self, node: Node) -> None:
        assert node.tenure is not None
        node.tenure = node.tenure.next(node.clock(self.now))
        node.request = Request("renew", node.tenure.record, node.clock(self.now))

    def _take(self, node: Node, request: Request, granted: bool, found: Record | None) -> None:
        now = node.clock(self.now)
        tenure = node.tenure
        if request.kind == "look":
            node.seen = node.seen.observe(found, now)
        elif request.kind == "acquire" and granted and tenure is None:
            node.tenure = Tenure.begin(request.record, Won(found, request.sent_at, now), node.seen)
        elif request.kind == "renew" and tenure is not None and tenure.record.holder == request.record.holder:
            node.tenure = tenure.renewed(request.sent_at, now) if granted else None


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


def test_the_world_can_elect_hand_over_and_recover() -> None:
    """A world in which nobody ever leads would prove nothing."""
    world = World()
    world.begin((1.0, 1.0, 1.0))
    world.elected(0)
    assert world.nodes[0].leads(world.now)
    world.elected(1)
    assert not world.nodes[1].leads(world.now)
    world.resign(0)
    world.carried_out(0)
    world.answered(0)
    world.elected(1)
    assert world.nodes[1].leads(world.now)
    world.elected(2)
    world.time_passes(3.0)
    world.elected(2)
    world.time_passes(0.1)
    assert world.nodes[2].leads(world.now)
