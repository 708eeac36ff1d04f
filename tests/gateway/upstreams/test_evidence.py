"""What counts against a server: only what it produced itself and no client can have provoked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gateway.upstreams.kit import asks
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_info import parse_request_info
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.upstreams.evidence import BUILT_IN_GROUPS, Evidence, is_built_in, outcome_of
from wharf.gateway.upstreams.outliers import Outcome
from wharf.wire.web import Fault

WATCH, URL = asks("watch"), RequestInfo(False, "/version", "get")
GOOD, BAD, LOST, NOTHING = Outcome.GOOD, Outcome.BAD, Outcome.LOST, Outcome.NOTHING
SIGNS = st.sampled_from([None, *Fault])


@pytest.mark.parametrize(
    ("info", "status", "fault", "outcome"),
    [
        (asks(), 200, None, GOOD),
        (asks(), 404, None, GOOD),
        (asks(), 429, None, GOOD),
        (asks(), 500, None, GOOD),  # one request's trouble, not the server's
        (asks(), 503, None, BAD),
        (asks(group="apps"), 504, None, BAD),
        (asks(group="rbac.authorization.k8s.io"), 502, None, BAD),
        (asks("watch"), 503, None, BAD),
        (URL, 503, None, BAD),
        (RequestInfo(False, "/readyz", "head"), 503, None, BAD),
        (asks("create"), 503, None, NOTHING),  # maybe an admission webhook's
        (asks("delete", group="apps"), 504, None, NOTHING),
        (RequestInfo(False, "/version", "post"), 503, None, NOTHING),
        (asks("create"), 0, Fault.RESET, BAD),
        (asks(group="metrics.k8s.io"), 503, None, NOTHING),  # an aggregated server's
        (asks(group="servicecatalog.k8s.io"), 503, None, NOTHING),
        (asks(group="packages.example.org"), 503, None, NOTHING),
        (asks(group="nodots"), 503, None, NOTHING),
        (asks(group="metrics.k8s.io"), 0, Fault.RESET, NOTHING),
        (asks(group="metrics.k8s.io"), 0, Fault.TIMEOUT, NOTHING),
        (asks(what="pods/log"), 502, None, NOTHING),  # a kubelet's
        (asks(what="services/proxy"), 503, None, NOTHING),
        (asks("proxy", "nodes"), 503, None, NOTHING),
        (asks(what="pods/proxy"), 0, Fault.PROTOCOL, NOTHING),  # as many interim responses as a pod likes
        (asks(what="pods/proxy"), 0, Fault.RESET, NOTHING),
        (asks(what="pods/exec"), 0, Fault.TIMEOUT, NOTHING),
        (asks(what="pods/proxy"), 0, Fault.UNSENT, BAD),
        (asks(what="pods/proxy"), 200, Fault.LOST, LOST),
        (asks(), 0, None, NOTHING),  # the client went away first
        (asks(), 0, Fault.UNSENT, BAD),
        (asks(), 0, Fault.FULL, NOTHING),
        (asks(), 0, Fault.REFUSED, NOTHING),  # it goes away in good order
        (asks(), 0, Fault.RESET, BAD),
        (asks(), 200, Fault.RESET, NOTHING),  # the server's deadline has come while the client read slowly
        (asks(), 200, Fault.TIMEOUT, NOTHING),  # the gateway cut a slow reader off
        (asks(), 200, Fault.PROTOCOL, BAD),
        (WATCH, 200, Fault.RESET, NOTHING),
        (WATCH, 200, Fault.PROTOCOL, NOTHING),
        (WATCH, 0, Fault.RESET, BAD),
        (asks(), 0, Fault.TIMEOUT, BAD),
        (asks(), 0, Fault.PROTOCOL, BAD),
        (asks(), 0, Fault.LOST, LOST),
        (WATCH, 200, Fault.LOST, LOST),
    ],
)
def test_outcome_of_an_authenticated_request(
    info: RequestInfo, status: int, fault: Fault | None, outcome: Outcome
) -> None:
    assert outcome_of(Evidence(info, status=status, fault=fault)) is outcome


@pytest.mark.parametrize("status", [0, 502, 503, 504])
@pytest.mark.parametrize("fault", [None, *Fault])
def test_an_unauthenticated_client_proves_only_that_there_is_no_connection(status: int, fault: Fault | None) -> None:
    found = outcome_of(Evidence(URL, b"/version?timeout=1ns", status, fault, authenticated=False))
    assert found is (BAD if fault is Fault.UNSENT else NOTHING)


@pytest.mark.parametrize("status", [200, 401, 404, 500])
@pytest.mark.parametrize("target", [b"/version", b"/healthz", b"/api/v1/pods"])
def test_an_unauthenticated_client_shows_of_no_server_that_it_works(target: bytes, status: int) -> None:
    evidence = Evidence(parse_request_info(b"GET", target), target, status)
    assert outcome_of(evidence) is GOOD
    assert outcome_of(replace(evidence, authenticated=False)) is NOTHING


@pytest.mark.parametrize(
    "info",
    [
        asks(what="pods/proxy"),
        asks(what="pods/log"),
        asks(what="services/proxy"),
        asks(group="metrics.k8s.io"),
        RequestInfo(False, "/openapi/v2", "get"),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_of_another_server_does_not_show_that_this_one_works(info: RequestInfo, status: int) -> None:
    assert outcome_of(Evidence(info, status=status)) is NOTHING
    assert outcome_of(Evidence(asks(), status=status)) is GOOD


@pytest.mark.parametrize(
    ("target", "status", "fault", "outcome"),
    [
        (b"/version", 504, None, BAD),
        (b"/version?timeout=1ns", 504, None, NOTHING),
        (b"/version?pretty&time%6fut=1ns", 504, None, NOTHING),
        (b"/version?TIMEOUT=1ns", 504, None, BAD),
        (b"/version?timeoutSeconds=1", 504, None, BAD),  # of watches only
        (b"/version?timeout=1ns", 503, None, BAD),
        (b"/version?timeout=1ns", 0, Fault.RESET, NOTHING),  # head and abort came together
        (b"/version?timeout=1ns", 0, Fault.TIMEOUT, NOTHING),
        (b"/version?timeout=1ns", 0, Fault.PROTOCOL, BAD),
        (b"/version?timeout=1ns", 0, Fault.LOST, LOST),
        (b"/api/v1/pods?resourceVersion=9999999999", 504, None, NOTHING),  # too large
        (b"/api/v1/pods?resourceVersion=9999999999", 503, None, BAD),
        (b"/api/v1/pods?resourceVersion=9999999999", 0, Fault.TIMEOUT, BAD),
        (b"/api/v1/pods?limit=5&continue=eyJydiI6OX0", 504, None, NOTHING),  # a token names a version too
        (b"/api/v1/pods?c%6fntinue=eyJydiI6OX0", 504, None, NOTHING),
        (b"/api/v1/pods?limit=5&continue=a&resourceVersion=9", 504, None, NOTHING),
        (b"/api/v1/pods?limit=5&continue=eyJydiI6OX0", 503, None, BAD),
        (b"/api/v1/pods?limit=5&continue=eyJydiI6OX0", 0, Fault.TIMEOUT, BAD),
        (b"/api/v1/pods?limit=5", 504, None, BAD),
    ],
)
def test_a_deadline_or_version_of_the_clients_choice_proves_nothing(
    target: bytes, status: int, fault: Fault | None, outcome: Outcome
) -> None:
    assert outcome_of(Evidence(parse_request_info(b"GET", target), target, status, fault)) is outcome


@pytest.mark.parametrize(
    ("status", "fault", "outcome"),
    [(504, None, NOTHING), (0, Fault.TIMEOUT, NOTHING), (503, None, BAD), (0, Fault.RESET, BAD), (0, Fault.LOST, LOST)],
)
def test_a_request_body_arrives_at_the_clients_pace(status: int, fault: Fault | None, outcome: Outcome) -> None:
    assert outcome_of(Evidence(URL, b"/version", status, fault, has_body=True)) is outcome


@pytest.mark.parametrize(
    ("info", "target", "status", "outcome"),
    [
        (URL, b"/version", 0, LOST),
        (URL, b"/version", 200, NOTHING),  # HTTP/1.1 aborts a response by closing
        (URL, b"/version?timeout=1s", 0, NOTHING),
        (asks(what="pods/proxy"), b"/", 0, NOTHING),
        (WATCH, b"/", 200, NOTHING),
    ],
)
def test_a_connection_of_its_own_may_be_closed_because_of_its_request(
    info: RequestInfo, target: bytes, status: int, outcome: Outcome
) -> None:
    evidence = Evidence(info, target, status, Fault.LOST, shares_connection=False)
    assert outcome_of(evidence) is outcome
    assert outcome_of(replace(evidence, shares_connection=True)) is LOST


@pytest.mark.parametrize(
    ("target", "built_in"),
    [
        (b"/version", True),
        (b"/api", True),
        (b"/api/v1", True),
        (b"/api/v1/pods", True),
        (b"/apis", True),
        (b"/apis/", True),
        (b"/apis/apps", True),
        (b"/apis/apps/v1", True),
        (b"/apis/apps/v1/deployments", True),
        (b"/apis/metrics.k8s.io", False),
        (b"/apis/metrics.k8s.io/v1beta1", False),
        (b"/apis/metrics.k8s.io/v1beta1/", False),
        (b"/apis/metrics%2Ek8s.io/v1beta1", False),
        (b"//apis/metrics.k8s.io/v1beta1", False),
        (b"/apis/metrics.k8s.io/v1beta1/nodes", False),
        (b"/apis//v1/nodes", False),
        (b"/openapi/v2", False),
        (b"/openapi/v3/apis/metrics.k8s.io/v1beta1", False),
        (b"/metrics", True),
    ],
)
def test_discovery_of_a_group_belongs_to_whoever_serves_the_group(target: bytes, built_in: bool) -> None:
    info = parse_request_info(b"GET", target)
    assert is_built_in(info) is built_in
    assert outcome_of(Evidence(info, target, 503)) is (BAD if built_in else NOTHING)


@given(
    st.sampled_from([*sorted(BUILT_IN_GROUPS), "", "metrics.k8s.io", "example.org"]),
    st.sampled_from(["get", "list", "watch", "create", "update", "patch", "delete"]),
    st.sampled_from(["pods", "pods/proxy", "pods/log", "pods/status"]),
    st.sampled_from([0, 200, 404, 500, 502, 503, 504]),
    SIGNS,
    st.booleans(),
    st.booleans(),
)
def test_what_does_not_count_for_an_authenticated_client_never_counts_for_another(
    group: str, verb: str, what: str, status: int, fault: Fault | None, body: bool, shared: bool
) -> None:
    evidence = Evidence(asks(verb, what, group), b"/", status, fault, True, body, shared)
    counts = outcome_of(evidence) in (BAD, LOST)
    assert counts or outcome_of(replace(evidence, authenticated=False)) not in (BAD, LOST)
    assert counts or outcome_of(replace(evidence, has_body=True, target=b"/?timeout=1s")) not in (BAD, LOST)
