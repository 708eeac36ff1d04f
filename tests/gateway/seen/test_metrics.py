"""What clients invent costs the counters no memory."""

from __future__ import annotations

from wharf.common.kube.request_info import parse_request_info
from wharf.common.metrics import OTHER, Registry
from wharf.gateway.seen.metrics import RESOURCES_MAX, RequestMetrics


def test_names_that_clients_invent_are_not_kept() -> None:
    metrics = RequestMetrics(Registry())
    invented = b"x" * 10_000
    for target in (b"/apis/g/v1/" + invented, b"/api/v1/pods"):
        for method in (b"GET", invented):
            info = parse_request_info(method, target)
            metrics.answered("prod", "", info, 401)
            metrics.lasted("prod", "", info, 401, 0.1, 0.0)
    assert {key[3] for key in metrics._rows} == {"pods"}
    assert metrics.requests.child("prod", "", "list", OTHER, "401").value == 2


def test_nobody_without_a_right_fills_the_labels_with_names_that_look_like_resources() -> None:
    metrics = RequestMetrics(Registry())
    for number in range(10_000):
        for code in (401, 403, 404, 429, 503):
            metrics.answered("prod", "a", parse_request_info(b"GET", b"/apis/g/v1/made%d" % number), code)
    assert len(metrics.requests._children) == 5
    assert not metrics._rows
    widgets = parse_request_info(b"GET", b"/apis/acme.com/v1/widgets")
    metrics.answered("prod", "a", widgets, 200)  # a server knows them
    metrics.answered("prod", "a", widgets, 404)
    metrics.answered("other", "a", widgets, 404)
    assert metrics.requests.child("prod", "a", "list", "widgets", "404").value == 1
    assert metrics.requests.child("other", "a", "list", OTHER, "404").value == 1
    for number in range(10_000):  # a server that knows everything fills its own cluster's share
        metrics.answered("bad", "b", parse_request_info(b"GET", b"/apis/g/v1/made%d" % number), 200)
    assert len(metrics.requests._children) == 5 + 2 + 1 + RESOURCES_MAX + 1
