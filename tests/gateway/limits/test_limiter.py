"""The limits of one cluster in one process: what is admitted, what is refused, and that nothing is lost count of."""

from __future__ import annotations

import pytest
from wharf.gateway.api.shapes import Key, Schema, WatchClass
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import FREE, NOBODY, Cause, Refused, Ticket, Who, user_key
from wharf.gateway.limits.waiting import Outcome, Waiting
from wharf.gateway.user import UNKNOWN, User


def admit(
    limiter: Limiter, *names: str, now: float = 0.0, who: Who = NOBODY, long_running: bool = False, cost: float = 1.0
) -> Ticket | Refused | Waiting:
    return limiter.admit(names, who, long_running, cost, now)


def admitted(outcome: Ticket | Refused | Waiting) -> Ticket:
    assert isinstance(outcome, Ticket), outcome
    return outcome


def refused(outcome: Ticket | Refused | Waiting) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def waiting(outcome: Ticket | Refused | Waiting, told: list[Outcome] | None = None) -> Waiting:
    assert isinstance(outcome, Waiting), outcome
    if told is not None:
        outcome.on_done = told.append
    return outcome


def counts(limiter: Limiter, schema: int = 0) -> tuple[int, int, int, int]:
    """(admitted, in flight, queued, watches)"""
    found = limiter.counts()[schema]
    return found.admitted, found.in_flight, found.queued, found.watches


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = Limiter([Schema("a", qps=10.0, burst=20)], 0.0)
    assert [admit(limiter, "a") for _ in range(20)] == [FREE] * 20
    assert refused(admit(limiter, "a")) == Refused("a", 1, Cause.RATE)
    assert isinstance(admit(limiter, "a", now=0.099), Refused)
    assert admit(limiter, "a", now=0.1) is FREE
    assert isinstance(admit(limiter, "a", now=0.1), Refused)
    assert sum(admit(limiter, "a", now=100.0) is FREE for _ in range(50)) == 20


def test_refill_is_exact_on_a_machine_that_is_up_for_years() -> None:
    start = 1e8
    limiter = Limiter([Schema("a", qps=7.0, burst=7)], start)
    assert all(admit(limiter, "a", now=start) is FREE for _ in range(7))
    assert all(admit(limiter, "a", now=start + turn / 7) is FREE for turn in range(1, 700))
    assert isinstance(admit(limiter, "a", now=start + 100.0), Ticket)
    assert isinstance(admit(limiter, "a", now=start + 100.0), Refused)


@pytest.mark.parametrize(
    ("qps", "cost", "retry_after"), [(10.0, 1.0, 1), (0.25, 1.0, 4), (1.0, 3.0, 3), (0.1, 3.0, 30)]
)
def test_retry_after_is_when_the_tokens_are_due(qps: float, cost: float, retry_after: int) -> None:
    limiter = Limiter([Schema("a", qps=qps, burst=3)], 0.0)
    admitted(admit(limiter, "a", cost=3.0))
    assert refused(admit(limiter, "a", cost=cost)).retry_after == retry_after
    admitted(admit(limiter, "a", cost=cost, now=float(retry_after)))


def test_a_rate_of_nothing_says_come_back_late() -> None:
    limiter = Limiter([Schema("a", qps=0.0, burst=1)], 0.0)
    admitted(admit(limiter, "a"))
    assert refused(admit(limiter, "a", now=1e6)).retry_after == 3600


def test_a_request_dearer_than_the_burst_is_paid_for_afterwards() -> None:
    limiter = Limiter([Schema("a", qps=10.0, burst=10)], 0.0)
    admitted(admit(limiter, "a", cost=50.0))
    assert refused(admit(limiter, "a")).retry_after == 5
    assert isinstance(admit(limiter, "a", now=4.0), Refused)
    admitted(admit(limiter, "a", now=4.2))


def test_in_flight_counts_until_released_once() -> None:
    limiter = Limiter([Schema("a", max_in_flight=2)], 0.0)
    one, _ = admitted(admit(limiter, "a")), admitted(admit(limiter, "a"))
    assert refused(admit(limiter, "a")) == Refused("a", 1, Cause.IN_FLIGHT)
    one.release(1.0)
    one.release(1.0)
    assert counts(limiter) == (2, 1, 0, 0)
    admitted(admit(limiter, "a"))
    assert isinstance(admit(limiter, "a"), Refused)


def test_none_at_once_blocks_everything() -> None:
    limiter = Limiter([Schema("a", max_in_flight=0, wait_seconds=5.0)], 0.0)
    assert refused(admit(limiter, "a")).cause is Cause.IN_FLIGHT


def test_exempt_only_counts() -> None:
    limiter = Limiter([Schema("a")], 0.0)
    assert [admit(limiter, "a") for _ in range(1000)] == [FREE] * 1000
    assert counts(limiter) == (1000, 0, 0, 0)


def test_no_schema_and_one_that_is_gone_limit_nothing() -> None:
    limiter = Limiter([Schema("a", max_in_flight=0)], 0.0)
    assert admit(limiter) is FREE
    assert admit(limiter, "b") is FREE
    assert admit(limiter, "b", "c") is FREE


def test_a_schema_may_limit_both() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, qps=1.0, burst=2)], 0.0)
    one = admitted(admit(limiter, "a"))
    assert refused(admit(limiter, "a")).cause is Cause.IN_FLIGHT
    one.release(0.0)
    admitted(admit(limiter, "a")).release(0.0)
    assert refused(admit(limiter, "a")).cause is Cause.RATE


def test_all_schemas_or_none() -> None:
    limiter = Limiter([Schema("a", qps=1.0, burst=5), Schema("b", max_in_flight=3), Schema("c", max_in_flight=1)], 0.0)
    held = admitted(admit(limiter, "a", "b", "c"))
    for _ in range(10):
        assert refused(admit(limiter, "a", "b", "c")).schema == "c"
    assert [counts(limiter, at)[:2] for at in range(3)] == [(1, 0), (1, 1), (1, 1)]
    held.release(0.0)
    assert [counts(limiter, at)[1] for at in range(3)] == [0, 0, 0]
    assert sum(isinstance(admit(limiter, "a"), Ticket) for _ in range(10)) == 4


def test_every_key_has_its_own_bucket() -> None:
    limiter = Limiter(
        [Schema("a", max_in_flight=1, key=Key.USER), Schema("b", max_in_flight=1, key=Key.NAMESPACE)], 0.0
    )
    admitted(admit(limiter, "a", who=Who("alice", "x")))
    assert isinstance(admit(limiter, "a", who=Who("alice", "y")), Refused)
    admitted(admit(limiter, "a", who=Who("bob", "x")))
    admitted(admit(limiter, "b", who=Who("alice", "x")))
    assert isinstance(admit(limiter, "b", who=Who("bob", "x")), Refused)
    assert [found.keys for found in limiter.counts()] == [2, 1]


def test_people_share_the_bucket_beside_those_of_service_accounts() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, key=Key.SERVICE_ACCOUNT)], 0.0)
    admitted(admit(limiter, "a", who=Who("system:serviceaccount:x:one")))
    admitted(admit(limiter, "a", who=Who("system:serviceaccount:x:two")))
    admitted(admit(limiter, "a", who=Who("alice")))
    assert isinstance(admit(limiter, "a", who=Who("bob")), Refused)


def test_a_user_that_only_the_server_knows_is_counted_by_its_token() -> None:
    assert user_key(User("alice")) == "alice"
    assert user_key(UNKNOWN, "one") == user_key(UNKNOWN, "one")
    assert user_key(UNKNOWN, "one") != user_key(UNKNOWN, "two")
    assert user_key(User("one")) != user_key(UNKNOWN, "one")
    assert "one" not in user_key(UNKNOWN, "one")


def test_the_least_recently_used_key_goes_first() -> None:
    limiter = Limiter([Schema("a", qps=0.001, burst=1, key=Key.USER, keys_max=2)], 0.0)
    for name in ("one", "two", "one", "three"):
        admit(limiter, "a", who=Who(name))
    assert limiter.counts()[0].keys == 2
    assert isinstance(admit(limiter, "a", who=Who("one")), Refused)
    admitted(admit(limiter, "a", who=Who("two")))


def test_an_evicted_bucket_with_requests_in_flight_stays_right() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, key=Key.USER, keys_max=1)], 0.0)
    alice = admitted(admit(limiter, "a", who=Who("alice")))
    bob = admitted(admit(limiter, "a", who=Who("bob")))
    assert limiter.counts()[0].keys == 2
    assert isinstance(admit(limiter, "a", who=Who("alice")), Refused)
    assert isinstance(admit(limiter, "a", who=Who("bob")), Refused)
    alice.release(0.0)
    bob.release(0.0)
    admit(limiter, "a", who=Who("carol"))
    found = limiter.counts()[0]
    assert (found.keys, found.in_flight) == (1, 1)


def test_edge_35_watches_have_a_class_of_their_own() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, qps=1.0, burst=1, watches=2)], 0.0)
    watches = [admitted(admit(limiter, "a", long_running=True)) for _ in range(2)]
    assert refused(admit(limiter, "a", long_running=True)).cause is Cause.WATCHES
    admitted(admit(limiter, "a"))
    assert counts(limiter) == (3, 1, 0, 2)
    for watch in watches:
        watch.release(0.0)
    assert counts(limiter) == (3, 1, 0, 0)


def test_edge_35_watches_may_count_at_their_start_only() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, qps=1.0, burst=3, watch_class=WatchClass.START)], 0.0)
    watches = [admitted(admit(limiter, "a", long_running=True)) for _ in range(2)]
    assert counts(limiter) == (2, 0, 0, 2)
    short = admitted(admit(limiter, "a"))
    assert refused(admit(limiter, "a", long_running=True)).cause is Cause.RATE
    assert refused(admit(limiter, "a", long_running=True, now=1.0)).cause is Cause.IN_FLIGHT
    for ticket in (*watches, short):
        ticket.release(1.0)
    assert counts(limiter) == (3, 0, 0, 0)


def test_edge_35_watches_may_count_like_any_request() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1, watch_class=WatchClass.SAME)], 0.0)
    watch = admitted(admit(limiter, "a", long_running=True))
    assert isinstance(admit(limiter, "a"), Refused)
    watch.release(0.0)
    admitted(admit(limiter, "a"))


def test_numbers_change_in_place() -> None:
    limiter = Limiter([Schema("a", qps=10.0, burst=10, max_in_flight=2)], 0.0)
    held = [admitted(admit(limiter, "a")) for _ in range(2)]
    limiter.update([Schema("a", qps=1.0, burst=5, max_in_flight=1)], 0.5)  # 8 tokens, and 5 of the time at 10 a second
    held[0].release(0.5)
    assert refused(admit(limiter, "a", now=0.5)).cause is Cause.IN_FLIGHT
    held[1].release(0.5)
    for _ in range(5):
        admitted(admit(limiter, "a", now=0.5)).release(0.5)
    assert refused(admit(limiter, "a", now=0.5)).cause is Cause.RATE
    assert counts(limiter) == (7, 0, 0, 0)


def test_another_kind_of_limit_begins_anew_and_old_tickets_stay_valid() -> None:
    limiter = Limiter([Schema("a", max_in_flight=1)], 0.0)
    old = admitted(admit(limiter, "a"))
    limiter.update([Schema("a", max_in_flight=1, key=Key.USER)], 0.0)
    new = admitted(admit(limiter, "a", who=Who("alice")))
    old.release(0.0)
    assert counts(limiter) == (2, 1, 0, 0)
    new.release(0.0)
    assert counts(limiter) == (2, 0, 0, 0)
    limiter.update([], 0.0)
    assert limiter.counts() == ()


def test_fewer_keys_may_be_kept_from_now_on() -> None:
    limiter = Limiter([Schema("a", qps=1.0, burst=1, key=Key.USER)], 0.0)
    for name in "abcdef":
        admit(limiter, "a", who=Who(name))
    limiter.update([Schema("a", qps=1.0, burst=1, key=Key.USER, keys_max=2)], 0.0)
    assert limiter.counts()[0].keys == 2
    assert isinstance(admit(limiter, "a", who=Who("f")), Refused)
