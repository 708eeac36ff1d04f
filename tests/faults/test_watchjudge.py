"""The judge of watches itself: it accepts what a right server tells, and names each promise that is broken."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from faults.recorded.mix import KEYS, PREFIX, PREFIX_END
from faults.recorded.record import Answer, Entry, Operation, Request
from faults.recorded.watchjudge import Delivery, Segment, concerns, judge_order, judge_watch, truth_of
from faults.simulated import history
from hypothesis import given
from hypothesis import strategies as st

LOG = history(1, 500)[1]
TRUTH = truth_of(LOG)
LAST = LOG[-1].revision


def told(start: int, stop: int, key: str, end: str, chance: random.Random) -> Segment:
    """What a right server tells a watch of [key, end) from `start`, up to revision `stop`: some of it together."""
    segment = Segment(start, [Delivery(start - 1, created=True)])
    waiting: list[Entry] = []
    for entry in LOG[start - 2 if start > 1 else 0 :]:
        if entry.revision > stop:
            break
        events = tuple(event for event in entry.events if concerns(event, key, end))
        if events:
            waiting.append(Entry(entry.revision, events))
        if waiting and chance.random() < 0.6:
            flat = tuple(event for one in waiting for event in one.events)
            segment.deliveries.append(Delivery(entry.revision, flat))
            waiting = []
        if not waiting and chance.random() < 0.2:
            segment.deliveries.append(Delivery(entry.revision))
    if waiting:
        flat = tuple(event for one in waiting for event in one.events)
        segment.deliveries.append(Delivery(stop, flat))
    segment.deliveries.append(Delivery(stop))
    return segment


def right(chance: random.Random, key: str = PREFIX, end: str = PREFIX_END) -> list[Segment]:
    """A watch from the beginning that needed several streams."""
    stops = sorted(chance.sample(range(2, LAST), 3))
    starts = [1, *(stop + 1 for stop in stops)]
    return [told(start, stop, key, end, chance) for start, stop in zip(starts, [*stops, LAST], strict=True)]


@given(st.randoms(use_true_random=False), st.sampled_from([(PREFIX, PREFIX_END), (KEYS[0], ""), (KEYS[2], PREFIX_END)]))
def test_what_a_right_server_tells_is_accepted(chance: random.Random, keys: tuple[str, str]) -> None:
    assert judge_watch(right(chance, *keys), TRUTH, *keys) == []


def test_a_watch_from_now_on_owes_nothing_before() -> None:
    segment = told(LAST // 2 + 1, LAST, PREFIX, PREFIX_END, random.Random(0))
    segment.start = 0
    segment.deliveries[0] = Delivery(LAST // 2, created=True)
    assert judge_watch([segment], TRUTH, PREFIX, PREFIX_END) == []
    segment.deliveries[0] = Delivery(LAST // 2 - 5, created=True)
    assert rules(judge_watch([segment], TRUTH, PREFIX, PREFIX_END)) == {"reliable"}


def rules(faults: list[str]) -> set[str]:
    return {fault.partition(":")[0] for fault in faults}


Breaking = Callable[[list[Delivery]], None]


def with_events(deliveries: list[Delivery], least: int = 1) -> int:
    """Where a delivery of so many revisions is, past the first."""
    return next(
        at
        for at, one in enumerate(deliveries)
        if at > 4 and len({event.kv.mod for event in one.events}) >= least and not one.created
    )


def lose_an_answer(deliveries: list[Delivery]) -> None:
    del deliveries[with_events(deliveries)]


def lose_an_event(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries, 2)
    deliveries[at] = replace(deliveries[at], events=deliveries[at].events[1:])


def repeat_an_answer(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries)
    deliveries.insert(at, deliveries[at])


def repeat_an_old_answer(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries)
    deliveries.insert(at + 3, deliveries[at])


def repeat_an_event(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries)
    events = deliveries[at].events
    deliveries[at] = replace(deliveries[at], events=(events[0], *events))


def disorder(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries, 2)
    deliveries[at] = replace(deliveries[at], events=tuple(reversed(deliveries[at].events)))


def several(deliveries: list[Delivery]) -> tuple[int, int]:
    """(answer, index in it) where a revision of several events begins."""
    return next(
        (at, index)
        for at, one in enumerate(deliveries)
        for index, (event, after) in enumerate(zip(one.events, one.events[1:], strict=False))
        if event.kv.mod == after.kv.mod
    )


def split_a_revision(deliveries: list[Delivery]) -> None:
    at, index = several(deliveries)
    whole = deliveries[at]
    deliveries[at] = replace(whole, events=whole.events[: index + 1])
    deliveries.insert(at + 1, replace(whole, events=whole.events[index + 1 :]))


def updated(deliveries: list[Delivery]) -> tuple[int, int]:
    """(answer, index in it) of an event that replaced something."""
    return next((at, i) for at, one in enumerate(deliveries) for i, event in enumerate(one.events) if event.prev)


def change_event(deliveries: list[Delivery], at: int, index: int, **fields: object) -> None:
    events = list(deliveries[at].events)
    events[index] = replace(events[index], **fields)  # type: ignore[arg-type]  # fields of Event, by the callers
    deliveries[at] = replace(deliveries[at], events=tuple(events))


def no_previous_value(deliveries: list[Delivery]) -> None:
    change_event(deliveries, *updated(deliveries), prev=None)


def wrong_previous_value(deliveries: list[Delivery]) -> None:
    at, index = updated(deliveries)
    before = deliveries[at].events[index].prev
    assert before is not None
    change_event(deliveries, at, index, prev=replace(before, version=before.version + 1))


def wrong_value(deliveries: list[Delivery]) -> None:
    at, index = updated(deliveries)
    change_event(deliveries, at, index, kv=replace(deliveries[at].events[index].kv, value="?"))


def early_progress(deliveries: list[Delivery]) -> None:
    at = with_events(deliveries)
    deliveries.insert(at, Delivery(deliveries[at].revision))


def progress_beyond_the_log(deliveries: list[Delivery]) -> None:
    deliveries.append(Delivery(LAST + 1))


def header_goes_back(deliveries: list[Delivery]) -> None:
    deliveries.append(Delivery(LAST - 1))


def header_before_its_events(deliveries: list[Delivery]) -> None:
    deliveries[:] = [replace(one, revision=2) for one in deliveries]


def silence_at_the_end(deliveries: list[Delivery]) -> None:
    del deliveries[len(deliveries) // 2 :]


def no_created(deliveries: list[Delivery]) -> None:
    del deliveries[0]


def created_twice(deliveries: list[Delivery]) -> None:
    deliveries.insert(3, Delivery(LAST, created=True))


def cancelled(deliveries: list[Delivery]) -> None:
    deliveries.append(Delivery(LAST, canceled=True, reason="why not"))


def compacted_for_no_reason(deliveries: list[Delivery]) -> None:
    deliveries.append(Delivery(LAST, canceled=True, compacted=7))


BROKEN: dict[Breaking, set[str]] = {
    lose_an_answer: {"reliable"},
    lose_an_event: {"reliable"},
    repeat_an_answer: {"unique", "atomic"},
    repeat_an_old_answer: {"unique"},
    repeat_an_event: {"reliable"},
    disorder: {"ordered"},
    split_a_revision: {"atomic"},
    no_previous_value: {"prev_kv"},
    wrong_previous_value: {"prev_kv"},
    wrong_value: {"reliable"},
    early_progress: {"progress"},
    progress_beyond_the_log: {"progress"},
    header_goes_back: {"header"},
    header_before_its_events: {"header"},
    silence_at_the_end: {"reliable"},
    no_created: {"created"},
    created_twice: {"created"},
    cancelled: {"canceled"},
    compacted_for_no_reason: {"canceled"},
}


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_a_broken_promise_is_named(breaking: Breaking, seed: int) -> None:
    segment = told(1, LAST, PREFIX, PREFIX_END, random.Random(seed))
    breaking(segment.deliveries)
    assert rules(judge_watch([segment], TRUTH, PREFIX, PREFIX_END)) & BROKEN[breaking]


def test_a_resumed_stream_must_go_on_where_it_was_resumed() -> None:
    chance = random.Random(3)
    first, second = told(1, 40, PREFIX, PREFIX_END, chance), told(41, LAST, PREFIX, PREFIX_END, chance)
    late = replace(told(43, LAST, PREFIX, PREFIX_END, chance), start=41)
    early = replace(told(39, LAST, PREFIX, PREFIX_END, chance), start=41)
    behind = Segment(41, [Delivery(30, created=True), Delivery(30), *second.deliveries[1:]])
    assert judge_watch([first, second], TRUTH, PREFIX, PREFIX_END) == []
    assert "reliable" in rules(judge_watch([first, late], TRUTH, PREFIX, PREFIX_END))
    assert "unique" in rules(judge_watch([first, early], TRUTH, PREFIX, PREFIX_END))
    assert rules(judge_watch([first, behind], TRUTH, PREFIX, PREFIX_END)) == {"progress"}
    assert "recorder" in rules(judge_watch([first, replace(second, start=45)], TRUTH, PREFIX, PREFIX_END))


def test_a_compacted_watch_is_told_so_and_only_then() -> None:
    def compacted(start: int, at: int) -> list[Segment]:
        return [Segment(start, [Delivery(LAST, created=True), Delivery(LAST, canceled=True, compacted=at)])]

    def faults(segments: list[Segment], **told: int) -> set[str]:
        return rules(judge_watch(segments, TRUTH, PREFIX, PREFIX_END, complete=False, **told))

    assert faults(compacted(5, 20), compacted=20) == set()
    assert faults(compacted(20, 20), compacted=20) == {"canceled"}, "the compact revision itself can be watched"
    assert faults(compacted(5, 30), compacted=20) == {"canceled"}
    assert faults(compacted(5, 20)) == {"canceled"}


def test_the_truth_knows_what_was_replaced() -> None:
    plain = [Entry(one.revision, tuple(replace(event, prev=None) for event in one.events)) for one in LOG]
    assert truth_of(plain).entries == LOG
    assert TRUTH.revision == LAST


def test_a_read_after_an_event_must_have_it() -> None:
    revision = LOG[10].revision
    told = [Delivery(revision, LOG[10].events, at=100), Delivery(LOG[3].revision, at=200)]

    def read(called: int, revision: int, serializable: bool = False) -> Request:
        return Request(1, "n", called, called + 50, (Operation("range", "k"),), (), (), serializable, Answer(revision))

    for right_one in (
        read(250, revision),
        read(90, revision - 1),
        read(250, revision - 1, True),
        replace(read(250, 1), answer=None),
    ):
        assert judge_order([right_one], told) == []
    for wrong in (read(101, revision - 1), read(250, revision - 1)):
        assert rules(judge_order([wrong], told)) == {"order"}
