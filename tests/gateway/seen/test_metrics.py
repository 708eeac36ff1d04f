"""What clients invent costs the counters no memory."""

from __future__ import annotations

from wharf.common.kube.request_info import parse_request_info
from wharf.common.metrics import OTHER, Registry
from wharf.gateway.seen.metrics import RequestMetrics


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
