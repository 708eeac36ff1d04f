"""What the lease lets nodes believe: each rule by itself, and all of them together where everything goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from common.lease_world import TTL_MS, World
from hypothesis import given
from hypothesis import strategies as st
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

TTL = TTL_MS / 1000
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


def test_who_has_lost_the_lease_unknowingly_never_leads_however_new_its_fence() -> None:
    slow = Tenure.begin(NEW, Won(None, 0.0, 0.0), Seen())
    for sent in (1.0, 3.0, 5.0):
        slow = slow.renewed(sent, sent)
    # The lease is wiped, and another wins it, leads at once since nobody ever did, and knows nothing of the slow one.
    quick = Tenure.begin(OLD, Won(None, 5.1, 5.1), Seen()).promoted(1, 0, 5.2).renewed(5.2, 5.2)
    slow = slow.promoted(2, TTL_MS, 5.3)
    assert quick.may_lead(5.3)
    assert slow.holds(5.3)
    assert slow.from_ < 5.3
    assert not slow.may_lead(5.3)
    assert not slow.refused().may_lead(5.4)


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
    successor=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
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
        {"successor": 1},
        {"successor": "x" * (MAX_TEXT + 1)},
    ],
)
def test_a_record_is_read_strictly(change: dict[str, object]) -> None:
    fields = json.loads(encode_record(OLD))
    with pytest.raises(BadRecord):
        parse_record(json.dumps(fields | change).encode())
    for name in ("holder", "address", "counter", "ttl_ms"):
        with pytest.raises(BadRecord):
            parse_record(json.dumps({key: value for key, value in fields.items() if key != name}).encode())


# --- all of them together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", range(8))
def test_nobody_leads_beside_another_whatever_happens(batch: int) -> None:
    terms = 0
    for seed in range(batch * 40, batch * 40 + 40):
        world = World(seed)
        for _ in range(1500):
            world.step()
            assert len(world.leaders()) <= 1, f"seed {seed}, at {world.now:.3f}: {world.leaders()} lead"
        terms += world.terms
    assert terms > 30  # a world in which nobody ever leads would prove nothing


def test_a_record_of_another_release_is_read_without_the_fields_that_this_one_or_that_one_does_not_have() -> None:
    earlier = {
        "holder": "old/1",
        "address": "127.0.0.1:1",
        "counter": 7,
        "ttl_ms": TTL_MS,
        "released": True,
        "epoch": 4,
    }
    assert parse_record(json.dumps(earlier).encode()) == replace(OLD, released=True)
    later = earlier | {"successor": "8", "more": [1]}
    assert parse_record(json.dumps(later).encode()) == replace(OLD, released=True, successor="8")
    required = {name: earlier[name] for name in ("holder", "address", "counter", "ttl_ms")}
    assert parse_record(json.dumps(required).encode()) == replace(OLD, epoch=0), "it is not released"


def test_a_record_without_a_successor_has_only_the_fields_that_each_release_takes() -> None:
    assert json.loads(encode_record(OLD)).keys() == {"holder", "address", "counter", "ttl_ms", "released", "epoch"}
    assert json.loads(encode_record(replace(OLD, successor="8")))["successor"] == "8"
