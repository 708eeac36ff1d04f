"""Lists that are not paged: which get a limit, and what they cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_info import parse_request_info
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import ListProtection
from wharf.gateway.limits.lists import ListCosts, inject_limit, is_unpaged

PODS = b"/api/v1/pods"


def info_of(target: bytes) -> RequestInfo:
    return parse_request_info(b"GET", target)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", b"?limit=500"),
        (b"?", b"?limit=500"),
        (b"?labelSelector=a%3Db", b"?labelSelector=a%3Db&limit=500"),
        (b"?labelSelector=a%3Db&", b"?labelSelector=a%3Db&limit=500"),
        (b"?resourceVersion=", b"?resourceVersion=&limit=500"),
        (b"?resourceVersion=7&resourceVersionMatch=Exact", b"?resourceVersion=7&resourceVersionMatch=Exact&limit=500"),
        (b"?x=limit;limit=1", b"?x=limit;limit=1&limit=500"),
        (b"?limit%=1", b"?limit%=1&limit=500"),
        (b"?pretty=a+b&timeoutSeconds=3", b"?pretty=a+b&timeoutSeconds=3&limit=500"),
    ],
)
def test_a_limit_is_appended_and_nothing_else_changes(query: bytes, expected: bytes) -> None:
    assert inject_limit(info_of(PODS + query), PODS + query, 500) == PODS + expected


@pytest.mark.parametrize(
    "query",
    [
        b"?limit=10",
        b"?limit=0",
        b"?%6cimit=10",
        b"?a=b&limit=",
        b"?continue=abc",
        b"?watch=true",
        b"?resourceVersion=0",
        b"?resourceVersion=7",
        b"?resourceVersion=7&resourceVersionMatch=NotOlderThan",
        b"?resourceVersion=0&resourceVersionMatch=NotOlderThan",
        b"?resourceVersionMatch=Exact",
        b"?resourceVersion=0&resourceVersionMatch=Exact",
        b"?resourceVersionMatch=Else",
        b"?fieldSelector=metadata.name%3Da",
    ],
)
def test_what_is_paged_small_or_read_from_the_watch_cache_is_left_alone(query: bytes) -> None:
    assert inject_limit(info_of(PODS + query), PODS + query, 500) is None


@pytest.mark.parametrize("target", [b"/api/v1/namespaces/x/pods/a", b"/healthz", b"/api/v1", b"/version?limit=1"])
def test_only_lists_are_lists(target: bytes) -> None:
    assert not is_unpaged(info_of(target), target)
    assert inject_limit(info_of(target), target, 500) is None


def test_no_limit_no_change() -> None:
    assert inject_limit(info_of(PODS), PODS, 0) is None


@given(st.binary(max_size=60))
def test_whatever_the_query_it_is_kept_and_limited_at_most_once(query: bytes) -> None:
    target = PODS + b"?" + query
    info = RequestInfo(True, PODS.decode(), "list", "api", "", "v1", resource="pods")
    changed = inject_limit(info, target, 7)
    if changed is None:
        return
    assert changed.startswith(target)
    assert inject_limit(info, changed, 7) is None
    assert changed[len(target) :] in (b"limit=7", b"&limit=7")


def test_a_list_costs_what_its_last_answers_weighed() -> None:
    costs, protection = ListCosts(), ListProtection(cost_per_bytes=1000, cost_max=20)
    pods = info_of(PODS)
    assert costs.cost(protection, pods) == 1.0
    costs.note(pods, 5500)
    assert costs.cost(protection, pods) == 6.0
    costs.note(pods, 500)
    assert costs.cost(protection, pods) == 4.0
    costs.note(pods, 10**9)
    assert costs.cost(protection, pods) == 20.0
    assert costs.cost(protection, info_of(PODS + b"?labelSelector=a")) == 1.0
    assert costs.cost(ListProtection(), pods) == 1.0


def test_costs_are_bounded_in_number() -> None:
    costs, protection = ListCosts(entries_max=2), ListProtection(cost_per_bytes=1)
    lists = [info_of(b"/api/v1/namespaces/%d/pods" % at) for at in range(3)]
    for one in lists:
        costs.note(one, 9)
    assert [costs.cost(protection, one) for one in lists] == [1.0, 10.0, 10.0]
