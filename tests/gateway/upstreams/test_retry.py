"""The matrix of what may be tried again, and the budget that bounds it."""

from __future__ import annotations

import pytest
from gateway.upstreams.kit import asks
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.upstreams.retry import FLOOR, SAVED_MAX, Budget, may_retry
from wharf.wire.web import Fault

READS = [asks("get"), asks("list"), asks("watch"), asks(what="pods/log"), RequestInfo(False, "/version", "get"),
         RequestInfo(False, "/version", "head")]  # fmt: skip
WRITES = [asks(verb) for verb in ("create", "update", "patch", "delete", "deletecollection")] + [
    RequestInfo(False, "/x", "post"),
    asks("proxy", "nodes"),
    asks("get", "pods/exec"),  # a GET that runs a command
    asks("get", "pods/attach"),
    asks("get", "pods/portforward"),
    asks("get", "services/proxy"),
]


@pytest.mark.parametrize("info", READS + WRITES)
@pytest.mark.parametrize("fault", Fault)
def test_edge_29_what_may_be_sent_again(info: RequestInfo, fault: Fault) -> None:
    unprocessed = fault in (Fault.UNSENT, Fault.FULL, Fault.REFUSED)
    cut = fault in (Fault.RESET, Fault.LOST)
    expected = unprocessed or (cut and info in READS)
    assert may_retry(fault, info, head_sent=False, replayable=True, attempts_left=1) is expected
    assert not may_retry(fault, info, head_sent=True, replayable=True, attempts_left=1)
    assert not may_retry(fault, info, head_sent=False, replayable=False, attempts_left=1)
    assert not may_retry(fault, info, head_sent=False, replayable=True, attempts_left=0)


def test_a_share_of_requests_may_be_repeated() -> None:
    budget = Budget(0.2, 0.0)
    while budget.take(0.0):
        pass
    for _ in range(100):
        budget.request()
    assert sum(budget.take(0.0) for _ in range(100)) in (19, 20)


def test_however_little_traffic_there_is_one_a_second_is_granted() -> None:
    budget = Budget(0.2, 0.0)
    while budget.take(0.0):
        pass
    assert not budget.take(0.9)
    assert budget.take(1.0)
    assert not budget.take(1.5)


def test_a_share_of_nothing_allows_nothing() -> None:
    budget = Budget(0.0, 0.0)
    budget.request()
    assert not budget.take(1000.0)


@given(st.lists(st.one_of(st.just("request"), st.floats(0, 5)), max_size=300), st.floats(0.01, 1))
def test_edge_29_retries_stay_within_the_budget(history: list[str | float], share: float) -> None:
    budget, now, requests, retries = Budget(share, 0.0), 0.0, 0, 0
    for step in history:
        if isinstance(step, str):
            budget.request()
            requests += 1
        else:
            now += step
            retries += budget.take(now)
        assert retries <= 10 * FLOOR + share * requests + FLOOR * now + 1e-6
    assert sum(budget.take(now) for _ in range(200)) <= SAVED_MAX
