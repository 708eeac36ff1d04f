"""Lists that are not paged: which get a limit, and what they cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_info import parse_request_info
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import ListProtection
from wharf.gateway.limits.lists import PAGE_MAX, ListCosts, inject_limit, is_unpaged, is_whole

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
        (b"?continue=", b"?continue=&limit=500"),
        (b"?continue=abc", b"?continue=abc&limit=500"),  # all that is left
    ],
)
def test_a_limit_is_appended_and_nothing_else_changes(query: bytes, expected: bytes) -> None:
    assert inject_limit(info_of(PODS + query), PODS + query, 500) == PODS + expected


@pytest.mark.parametrize(
    "query",
    [
        b"?limit=10",
        b"?limit=500",
        b"?limit=10&limit=0",
        b"?%6cimit=10",
        b"?limit=%2B10",
        b"?limit=10&continue=abc",
        b"?limit=10&resourceVersion=7",
        b"?a=b&limit=",  # what is no number is refused by the server
        b"?limit=1e9",
        b"?limit=99999999999999999999",
        b"?watch=true",
        b"?resourceVersion=0",
        b"?resourceVersion=0&limit=500",
        b"?resourceVersion=0&limit=100000",
        b"?resourceVersion=0&continue=abc",
        b"?resourceVersion=7&limit=0",
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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"?limit=0", b"?limit=500"),
        (b"?limit=-1&a=b", b"?limit=500&a=b"),
        (b"?a=b&lim%69t=0&", b"?a=b&limit=500&"),
        (b"?limit%=1&limit=0&limit=1", b"?limit%=1&limit=500&limit=1"),
        (b"?limit=501", b"?limit=500"),
        (b"?limit=100000&continue=abc", b"?limit=500&continue=abc"),
        (b"?limit=100000&resourceVersion=7", b"?limit=500&resourceVersion=7"),
        (
            b"?limit=100000&resourceVersion=7&resourceVersionMatch=NotOlderThan",
            b"?limit=500&resourceVersion=7&resourceVersionMatch=NotOlderThan",
        ),
    ],
)
def test_a_limit_that_is_none_or_too_large_is_replaced(query: bytes, expected: bytes) -> None:
    assert inject_limit(info_of(PODS + query), PODS + query, 500) == PODS + expected


def test_a_usual_page_is_left_alone_even_where_the_policy_wants_a_smaller_one() -> None:
    usual, larger = PODS + b"?limit=%d" % PAGE_MAX, PODS + b"?limit=%d" % (PAGE_MAX + 1)
    assert inject_limit(info_of(usual), usual, 10) is None
    assert inject_limit(info_of(larger), larger, 10) == PODS + b"?limit=10"
    assert inject_limit(info_of(larger), larger, PAGE_MAX + 1) is None


@pytest.mark.parametrize(
    ("query", "unpaged"),
    [
        (b"", True),
        (b"limit=500", False),
        (b"limit=500&limit=0", False),
        (b"limit=500&continue=abc", False),
        (b"limit=500&resourceVersion=7", False),
        (b"limit=500&resourceVersion=7&resourceVersionMatch=NotOlderThan", False),
        (b"limit=500&resourceVersion=", False),
        (b"limit=0", True),
        (b"limit=-5", True),
        (b"limit=", True),
        (b"limit=0&limit=500", True),
        (b"lim%69t=0", True),
        (b"limit=100000", True),
        (b"continue=", True),
        (b"continue=abc", True),
        (b"limit=500&resourceVersion=0", True),  # what reflectors send
        (b"limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan", True),
        (b"limit=500&resourceVersion=%30", True),
        (b"limit=500;a&resourceVersion=7", True),
    ],
)
def test_a_list_is_unpaged_when_the_server_may_answer_with_all_of_it(query: bytes, unpaged: bool) -> None:
    target = PODS + b"?" + query
    assert is_unpaged(info_of(target), target) is unpaged


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        (b"", True),
        (b"limit=0&continue=", True),
        (b"limit=5&resourceVersion=0", True),
        (b"limit=5000", False),
        (b"continue=a", False),
    ],
)
def test_what_an_answer_holds_is_known_from_its_query(query: bytes, whole: bool) -> None:
    assert is_whole(PODS + b"?" + query) is whole


@pytest.mark.parametrize("target", [b"/api/v1/namespaces/x/pods/a", b"/healthz", b"/api/v1", b"/version?limit=1"])
def test_only_lists_are_lists(target: bytes) -> None:
    assert not is_unpaged(info_of(target), target)
    assert inject_limit(info_of(target), target, 500) is None


def test_no_limit_no_change() -> None:
    assert inject_limit(info_of(PODS), PODS, 0) is None


@given(st.one_of(st.binary(max_size=60), st.text("limit=05&%69;+", max_size=40).map(str.encode)))
def test_whatever_the_query_it_is_limited_once_and_otherwise_kept(query: bytes) -> None:
    target = PODS + b"?" + query
    info = RequestInfo(True, PODS.decode(), "list", "api", "", "v1", resource="pods")
    changed = inject_limit(info, target, 7)
    if changed is None:
        return
    assert inject_limit(info, changed, 7) is None
    assert not is_unpaged(info, changed)
    if not changed.startswith(target):
        before, after = query.split(b"&"), changed.removeprefix(PODS + b"?").split(b"&")
        assert [new for old, new in zip(before, after, strict=True) if old != new] == [b"limit=7"]
    else:
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
    assert costs.cost(protection, info_of(PODS + b"///")) == 20.0
    assert costs.cost(protection, info_of(b"/api/v1/namespaces/a/pods")) == 1.0
    assert costs.cost(ListProtection(), pods) == 1.0


def test_a_part_of_a_list_never_makes_it_cheaper() -> None:
    costs, protection = ListCosts(), ListProtection(cost_per_bytes=1000, cost_max=20)
    pods = info_of(PODS)
    costs.note(pods, 3000, whole=False)
    assert costs.cost(protection, pods) == 4.0
    costs.note(pods, 5000, whole=False)
    assert costs.cost(protection, pods) == 6.0
    costs.note(pods, 10, whole=False)
    assert costs.cost(protection, pods) == 6.0


def test_a_new_selector_costs_what_new_selectors_did() -> None:
    costs, protection = ListCosts(), ListProtection(cost_per_bytes=1000, cost_max=20)

    def selecting(text: str) -> RequestInfo:
        return info_of(PODS + b"?labelSelector=" + text.encode())

    costs.note(selecting("a!%3D1"), 9000)
    assert costs.cost(protection, selecting("a!%3D2")) == 10.0
    for at in range(9):
        costs.note(selecting(f"app%3D{at}"), 0)
    assert costs.cost(protection, selecting("app%3Dnew")) == 1.0
    assert costs.cost(protection, selecting("a!%3D1")) == 10.0
    costs.note(info_of(PODS), 9000)
    assert costs.cost(protection, selecting("app%3Dnew")) == 1.0


def test_costs_are_bounded_in_number() -> None:
    costs, protection = ListCosts(entries_max=2), ListProtection(cost_per_bytes=1)
    lists = [info_of(b"/api/v1/namespaces/%d/pods" % at) for at in range(3)]
    for one in lists:
        costs.note(one, 9)
    assert [costs.cost(protection, one) for one in lists] == [1.0, 10.0, 10.0]
