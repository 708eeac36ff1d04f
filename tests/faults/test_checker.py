"""The checker itself: it accepts what a right store does, and rejects each way in which a store can be wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from faults.recorded.checker import Report, check
from faults.recorded.record import KV, Answer, Compare, Entry, Event, Operation, Outcome, Request, lines
from faults.simulated import history

History = tuple[list[Request], list[Entry]]


def judged(requests: Sequence[Request], log: Sequence[Entry]) -> Report:
    return check(lines(requests, log))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("unanswered", [0.0, 0.15])
def test_a_right_history_is_accepted(seed: int, unanswered: float) -> None:
    report = judged(*history(seed, 600, unanswered=unanswered))
    assert not report.faults, str(report)
    assert report.requests >= 600
    assert report.revisions > 100
    assert (report.unanswered > 20) == (unanswered > 0)
    assert (report.landed > 5) == (unanswered > 0)


def test_twenty_thousand_requests_are_judged_in_seconds() -> None:
    report = judged(*history(7, 20_000, clients=12, unanswered=0.02))
    assert not report.faults, str(report)
    assert report.seconds < 60


# --- histories by hand: one thing wrong in each -----------------------------------------------------------------------


def asked(client: int, called: int, returned: int, one: Operation, answer: Answer | None) -> Request:
    return Request(client, "n", called, returned, (one,), answer=answer)


def put(client: int, called: int, returned: int, value: str, revision: int | None) -> Request:
    told = None if revision is None else Answer(revision, True, (Outcome(),))
    return asked(client, called, returned, Operation("put", "k", value=value), told)


def get(client: int, called: int, returned: int, kv: KV | None, revision: int) -> Request:
    told = Answer(revision, True, (Outcome((kv,), 1) if kv else Outcome(),))
    return asked(client, called, returned, Operation("range", "k"), told)


def delete(client: int, called: int, returned: int, revision: int | None) -> Request:
    told = None if revision is None else Answer(revision, True, (Outcome(deleted=1),))
    return asked(client, called, returned, Operation("delete", "k"), told)


A, B = KV("k", "a", 2, 2, 1), KV("k", "b", 2, 3, 2)
LOG_A = Entry(2, (Event("put", A),))
LOG_B = Entry(3, (Event("put", B, A),))
GONE = Entry(3, (Event("delete", KV("k", mod=3), A),))

GOOD: dict[str, History] = {
    "one after the other": ([put(1, 0, 9, "a", 2), get(2, 10, 19, A, 2), put(1, 20, 29, "b", 3)], [LOG_A, LOG_B]),
    "a read beside a write sees it": ([put(1, 0, 9, "a", 2), get(2, 1, 5, A, 2)], [LOG_A]),
    "a read beside a write does not see it": ([put(1, 0, 9, "a", 2), get(2, 1, 5, None, 1)], [LOG_A]),
    "an unanswered write that came late": (
        [put(1, 0, 9, "a", None), get(2, 10, 19, None, 1), get(2, 20, 29, A, 2)],
        [LOG_A],
    ),
    "an unanswered write that never came": ([put(1, 0, 9, "x", None), put(2, 20, 29, "a", 2)], [LOG_A]),
    "unanswered deletes, one of which landed": (
        [put(1, 0, 9, "a", 2), delete(2, 10, 11, None), delete(3, 12, 13, None), get(1, 20, 29, None, 3)],
        [LOG_A, GONE],
    ),
}

BAD: dict[str, tuple[History, set[str]]] = {
    "stale read": (
        ([put(1, 0, 9, "a", 2), put(1, 10, 19, "b", 3), get(2, 20, 29, A, 2)], [LOG_A, LOG_B]),
        {"linearizable"},
    ),
    "read from the future": (([get(2, 0, 9, A, 2), put(1, 10, 19, "a", 2)], [LOG_A]), {"linearizable"}),
    "two readers disagree about the order": (
        ([put(1, 0, 99, "a", 2), get(2, 10, 19, A, 2), get(3, 20, 29, None, 1)], [LOG_A]),
        {"linearizable"},
    ),
    "right revision, wrong value": (
        ([put(1, 0, 9, "a", 2), get(2, 10, 19, replace(A, value="b"), 2)], [LOG_A]),
        {"linearizable"},
    ),
    "right value, wrong revision": (([put(1, 0, 9, "a", 2), get(2, 10, 19, A, 3)], [LOG_A]), {"linearizable"}),
    "lost write": (
        ([put(1, 0, 9, "a", 2), get(2, 10, 19, None, 1)], []),
        {"log", "linearizable"},
    ),
    "acknowledged, in no read, not in the log": (([put(1, 0, 9, "a", 2), put(2, 10, 19, "b", 3)], [LOG_A]), {"log"}),
    "doubled write": (
        (
            [put(1, 0, 9, "a", 2), get(2, 10, 19, KV("k", "a", 2, 3, 2), 3)],
            [LOG_A, Entry(3, (Event("put", KV("k", "a", 2, 3, 2), A),))],
        ),
        {"log", "linearizable"},
    ),
    "two writes with one revision": (([put(1, 0, 9, "a", 2), put(2, 0, 9, "b", 2)], [LOG_A]), {"log", "linearizable"}),
    "revisions against the clock": (
        ([put(2, 0, 9, "b", 3), put(1, 10, 19, "a", 2)], [LOG_A, LOG_B]),
        {"linearizable"},
    ),
    "a gap in the revisions": (
        ([put(1, 0, 9, "a", 2), put(1, 10, 19, "c", 4)], [LOG_A, Entry(4, (Event("put", KV("k", "c", 2, 4, 2), A),))]),
        {"log", "linearizable"},
    ),
    "a revision nobody asked for": (([put(1, 0, 9, "a", 2)], [LOG_A, LOG_B]), {"log"}),
    "two unanswered deletes, three landed": (
        (
            [put(1, 0, 9, "a", 2), delete(2, 10, 11, None), put(1, 20, 29, "b", 4)],
            [
                LOG_A,
                GONE,
                Entry(4, (Event("put", KV("k", "b", 4, 4, 1)),)),
                Entry(5, (Event("delete", KV("k", mod=5)),)),
            ],
        ),
        {"log"},
    ),
    "a delete that landed before it was asked for": (
        ([put(1, 0, 9, "a", 2), get(1, 10, 19, None, 3), delete(2, 20, 21, None)], [LOG_A, GONE]),
        {"log", "linearizable"},
    ),
    "a log that does not follow from itself": (
        ([put(1, 0, 9, "a", 2)], [Entry(2, (Event("put", replace(A, version=2)),))]),
        {"log"},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_may_happen_is_accepted(name: str) -> None:
    report = judged(*GOOD[name])
    assert not report.faults, str(report)


@pytest.mark.parametrize("name", BAD)
def test_what_must_not_happen_is_rejected(name: str) -> None:
    told, judges = BAD[name]
    report = judged(*told)
    assert set(report.faults) == judges, str(report)


def half_a_transaction() -> History:
    both = (Operation("put", "k", value="a"), Operation("put", "l", value="a/l"))
    return [Request(1, "n", 0, 9, both)], [LOG_A]


def compare_that_could_not_hold() -> History:
    update = Request(
        2, "n", 10, 19, (Operation("put", "k", value="b"),), (Compare("k", 0),), (Operation("range", "k"),)
    )
    return [put(1, 0, 9, "a", 2), update], [LOG_A, LOG_B]


@pytest.mark.parametrize("wrong", [half_a_transaction, compare_that_could_not_hold])
def test_an_unanswered_transaction_is_whole_and_keeps_its_condition(wrong: Callable[[], History]) -> None:
    assert "log" in judged(*wrong()).faults


def test_stale_reads_are_held_to_what_they_promise() -> None:
    def stale(client: int, called: int, kv: KV | None, revision: int) -> Request:
        return replace(get(client, called, called + 5, kv, revision), serializable=True)

    writes = [put(1, 0, 9, "a", 2), put(1, 10, 19, "b", 3)]
    log = [LOG_A, LOG_B]
    assert not judged([*writes, stale(2, 30, A, 2), stale(2, 40, B, 3)], log).faults
    assert not judged([*writes, stale(1, 30, A, 2)], log).faults, "the node need not have what its leader has written"
    for wrong in (
        [stale(2, 30, B, 3), stale(2, 40, A, 2)],  # back in time
        [stale(2, 30, A, 3)],  # a state that never was
        [stale(2, 30, B, 4)],  # a revision that never was
        [stale(2, 1, B, 3)],  # a write before it was asked for
        [get(2, 30, 31, B, 3), stale(2, 40, A, 2)],  # older than what a fresh read has shown
    ):
        assert set(judged([*writes, *wrong], log).faults) == {"serializable"}


def test_a_long_history_with_one_stale_read_is_rejected_by_the_search() -> None:
    requests, log = history(3, 3000, clients=9, unanswered=0.05)
    victim = next(
        at
        for at, one in enumerate(requests)
        if at > 2500 and one.answer and not one.serializable and not one.compare and one.success[0].type == "range"
    )
    told = requests[victim].answer
    assert told is not None
    older = next(
        one.answer
        for one in reversed(requests[:victim])
        if one.answer
        and one.success == requests[victim].success
        and one.returned < requests[victim].called
        and one.answer.revision < told.revision - 12
    )
    requests[victim] = replace(requests[victim], answer=older)
    report = judged(requests, log)
    assert set(report.faults) == {"linearizable"}, str(report)
