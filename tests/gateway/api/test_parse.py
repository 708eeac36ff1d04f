"""Documents are read whole or refused with everything that is wrong with them, each with its path."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from gateway.api.documents import BAD, FULL, GOOD, PAIR, SECRET, Bad, document, policy, spec
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api import shapes
from wharf.gateway.api.parse import Conflict, Invalid, check_set, parse_cluster
from wire.pki import Authority

STRATEGIES = frozenset(("RoundRobin", "ConsistentHash"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


def parse(one: dict[str, Any], *, files: bool = False) -> shapes.UpstreamCluster:
    return parse_cluster(one, files=files, strategies=STRATEGIES)


def problems(one: dict[str, Any], *, files: bool = False) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        parse(one, files=files)
    return {problem.path: problem.text for problem in caught.value.problems}


def refusals(one: dict[str, Any]) -> list[str]:
    """Paths of problems; none for a good document. Any other error is the test's failure."""
    try:
        parse(one)
    except Invalid as refused:
        return [problem.path for problem in refused.problems] or ["refused without a reason"]
    return []


@pytest.mark.parametrize("name", GOOD)
def test_good_documents_are_read(name: str) -> None:
    assert parse(document(GOOD[name])).name == "blue.example.com"


@pytest.mark.parametrize("name", BAD)
def test_bad_documents_are_refused_with_one_path_and_a_reason(name: str) -> None:
    bad: Bad = BAD[name]
    found = problems(document(bad.spec))
    assert bad.path in found
    assert bad.word in found[bad.path]
    assert len(found) == 1 or name == "two materials"


def test_what_is_left_out_has_the_defaults_of_the_shapes() -> None:
    cluster = parse(document({"servers": [{"url": "https://10.0.0.1:6443"}]}))
    server = shapes.Server("10.0.0.1:6443", "https://10.0.0.1:6443", "10.0.0.1", 6443, True)
    assert cluster == shapes.UpstreamCluster("blue.example.com", servers=(server,))


def test_every_field_arrives() -> None:
    cluster = parse(document(FULL))
    assert cluster.addresses == (ip_address("10.9.0.1"), ip_address("fd00::1"))
    assert cluster.servers[0] == shapes.Server("one", "https://10.0.0.1:6443", "10.0.0.1", 6443, True, 3, "a")
    assert cluster.servers[1] == shapes.Server(
        "[fd00::2]:6443", "https://[fd00::2]:6443", "fd00::2", 6443, True, 0, "", True
    )
    assert cluster.servers[2] == shapes.Server("localhost", "http://localhost", "localhost", 80, False)
    assert cluster.serving.client_ca == shapes.Material(secret=("wharf", "ca"), secret_key="bundle.pem")
    assert cluster.serving.key == shapes.Material(secret=("wharf", "tls"), secret_key="tls.key")
    assert cluster.upstream.ca == shapes.Material(secret=("wharf", "tls"), secret_key="ca.crt")
    assert cluster.authentication == shapes.Authentication(
        shapes.TokenMode.REVIEW, False, False, 5.5, 0.0, ("https://kubernetes.default.svc",)
    )
    first = cluster.policies[0]
    assert first.rules[0].namespaces == ("kube-*", "", "-kube-system")
    assert first.rules[1] == shapes.Rule(non_resource_urls=("/openapi/*", "-/openapi/v2"))
    assert first.balance == shapes.Balance("ConsistentHash", shapes.Key.NAMESPACE, "a")
    assert first.lists == shapes.ListProtection(500, 1048576, 50)
    assert cluster.policies[1].deny == shapes.Deny(503, 7, "closed today")
    assert cluster.schemas[0] == shapes.Schema(
        "slow", qps=0.5, burst=3, key=shapes.Key.USER, scope=shapes.Scope.GLOBAL, wait_seconds=1.5
    )
    assert cluster.schemas[1].max_in_flight == 0
    assert cluster.timeouts == shapes.Timeouts(1.5, 61, 90, 30, 10, 5, 9)
    assert cluster.health == shapes.Health("/livez?verbose", 1, 1, 3, 1, 0)
    assert cluster.outliers == shapes.Outliers(3, 5, 50, 0.3)
    assert cluster.breaker == shapes.Breaker(100, 1000, 10)
    assert cluster.long_running == shapes.LongRunning(5000, 0)
    assert (cluster.upstream.connections_max, cluster.upstream.watch_connections_max) == (4, 40)
    assert cluster.retry == shapes.Retry(1, 0.1, 1024)
    assert cluster.logging == shapes.Logging(True, ("verb", "user"), 1, 0)
    assert cluster.tracing == shapes.Tracing(0.01)
    assert cluster.features == shapes.Features(False, True, True, False)


def test_the_object_tells_who_it_is() -> None:
    one = document(spec())
    one["metadata"] |= {
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"a": "b"},
        "managedFields": [],
    }
    one["status"] = {"anything": 1}
    cluster = parse(one)
    assert (cluster.uid, cluster.generation) == ("u", 3)
    assert cluster.created == "2026-01-02T03:04:05Z"


def test_all_problems_are_told_at_once() -> None:
    one = document(
        spec(policies=[{"name": "a", "rules": [{"verbs": ["get", "lsit"]}]}, {"name": "b", "servers": ["x"]}])
    )
    one["spec"]["servers"][1]["wieght"] = 3
    one["spec"]["timeouts"] = {"connect": -1}
    one["kind"] = "UpstreamClusters"
    found = problems(one)
    assert set(found) == {
        "kind",
        "spec.servers[1].wieght",
        "spec.policies[0].rules[0].verbs[1]",
        "spec.policies[1].servers[0]",
        "spec.timeouts.connect",
    }
    assert found["spec.servers[1].wieght"] == "unknown field (did you mean weight?)"


def test_a_broken_policy_does_not_hide_what_another_gets_wrong() -> None:
    one = document(spec(policies=[{"name": "a", "rules": [{"verbs": ["lsit"]}]}, {"name": "b", "servers": ["one1"]}]))
    found = problems(one)
    assert found["spec.policies[1].servers[0]"] == "'one1' is not a server of this cluster (did you mean one?)"
    assert len(found) == 2


def test_a_broken_rule_or_server_does_not_hide_what_else_its_policy_gets_wrong() -> None:
    policy = {
        "name": "a",
        "rules": [{"verbs": ["lsit"]}],
        "servers": ["one", "tow"],
        "flowControl": ["slwo", "fast"],
        "balance": {"strategy": "RundRobin", "hashKey": "Nothing"},
    }
    servers = [{"url": "https://10.0.0.1:6443", "name": "one", "weight": -1}, {"url": "https://two:6443", "zone": 7}]
    schemas = [{"name": "slow", "qps": -1}, {"name": "fast", "maxInFlight": 1}]
    found = problems(document(spec(servers=servers, policies=[policy], flowControl={"schemas": schemas})))
    assert set(found) == {
        "spec.servers[0].weight",
        "spec.servers[1].zone",
        "spec.policies[0].rules[0].verbs[0]",
        "spec.policies[0].servers[1]",
        "spec.policies[0].flowControl[0]",
        "spec.policies[0].balance.hashKey",
        "spec.policies[0].balance.strategy",
        "spec.flowControl.schemas[0].qps",
    }
    assert found["spec.policies[0].flowControl[0]"] == "'slwo' is not one of flowControl.schemas (did you mean slow?)"


def test_a_list_that_is_too_long_does_not_hide_what_its_entries_get_wrong() -> None:
    found = problems(document(spec(servers=[{"url": "ftp://x"}] + [{"url": f"https://s{n}"} for n in range(64)])))
    assert {"spec.servers", "spec.servers[0].url"} == set(found)


@pytest.mark.parametrize(
    ("path", "edit"),
    [
        ("apiVersion", {"apiVersion": "proxy.wharf.dev/v1"}),
        ("kind", {"kind": None}),
        ("metadata", {"metadata": None}),
        ("metadata.name", {"metadata": {"name": "Blue"}}),
        ("metadata.name", {"metadata": {}}),
        ("metadata.namespace", {"metadata": {"name": "a", "namespace": "b"}}),
        ("sepc", {"sepc": {}}),
        ("spec", {"spec": "x"}),
    ],
)
def test_envelopes_are_checked(path: str, edit: dict[str, Any]) -> None:
    assert path in problems(document(spec()) | edit)


def test_a_document_without_spec_is_refused() -> None:
    one = document(spec())
    del one["spec"]
    assert problems(one)["spec"] == "is required"


def test_files_are_for_directories_only() -> None:
    one = document(spec(upstream={"ca": {"file": "ca.crt"}}))
    assert parse(one, files=True).upstream.ca == shapes.Material(file="ca.crt")
    assert problems(one)["spec.upstream.ca.file"] == "unknown field"
    both = document(spec(upstream={"ca": {"file": "ca.crt", **SECRET}}))
    assert "exactly one" in problems(both, files=True)["spec.upstream.ca"]


def test_inline_material_is_looked_into(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    mine, other = ca.issue("mine"), ca.issue("other")
    text = {name: Path(name).read_text() for name in (mine.cert, mine.key, other.key, ca.ca_file)}
    good = {"certificate": {"pem": text[mine.cert]}, "key": {"pem": text[mine.key]}}
    cluster = parse(document(spec(upstream=good | {"ca": {"pem": text[ca.ca_file]}})))
    assert cluster.upstream.key == shapes.Material(text[mine.key].encode())
    wrong = problems(document(spec(upstream=good | {"key": {"pem": text[other.key]}})))
    assert wrong == {"spec.upstream.key": "this is not the key of the certificate"}
    leaf = {"ca": {"pem": text[mine.cert]}}
    assert parse(document(spec(upstream=leaf))).upstream.ca is not None  # no basicConstraints, as old roots


def test_a_certificate_that_says_it_is_no_ca_is_none() -> None:
    pem = certificate(x509.BasicConstraints(False, None))
    told = problems(document(spec(upstream={"ca": {"pem": pem}})))
    assert told == {"spec.upstream.ca.pem": "this is not a CA certificate (basicConstraints says CA:FALSE)"}


def certificate(extension: x509.ExtensionType) -> str:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2026, 1, 2))
    return builder.add_extension(extension, True).sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def test_problems_never_repeat_secrets() -> None:
    one = document(spec(upstream={"token": {"value": "hunter 2"}, "certificate": SECRET, "key": {"pem": "hunter2"}}))
    assert "hunter" not in str(problems(one))


def test_materials_are_not_in_a_repr() -> None:
    cluster = parse(document(spec(upstream={"token": {"value": " hunter2\n"}})))
    assert cluster.upstream.token == shapes.Material(b"hunter2")
    assert "hunter" not in repr(cluster)


def test_installed_strategies_are_known() -> None:
    assert parse_cluster(document(policy(balance={"strategy": "LeastRequests"}))).policies[0].name == "all"


@given(JSON)
def test_anything_as_a_spec_is_read_or_refused(anything: object) -> None:
    one = document(spec()) | {"spec": anything}
    assert "refused without a reason" not in refusals(one)


@given(st.sampled_from(sorted(FULL)), JSON)
def test_anything_as_a_part_is_read_or_refused_there(part: str, anything: object) -> None:
    one = document(copy.deepcopy(FULL) | {part: anything})
    places = (f"spec.{part}", "spec.policies", "spec.upstream", "spec.servers")  # itself and what refers to it
    assert all(path.startswith(places) for path in refusals(one))


def cluster(name: str, created: str = "", **parts: Any) -> shapes.UpstreamCluster:
    return replace(parse(document(spec(**parts), name)), created=created)


def test_the_older_cluster_keeps_what_two_claim() -> None:
    old = cluster("b", "2026-01-01T00:00:00Z", hostnames=["x", "*.y"], addresses=["10.0.0.1"])
    new = cluster("a", "2026-01-02T00:00:00Z", hostnames=["*.y", "z"], addresses=["10.0.0.1"])
    third = cluster("c", "2026-01-03T00:00:00Z", hostnames=["z"])
    assert check_set([third, new, old]) == [Conflict("a", "b", "*.y"), Conflict("a", "b", "10.0.0.1")]


def test_names_of_objects_are_claims_too_and_break_ties() -> None:
    assert check_set([cluster("b", hostnames=["a"]), cluster("a")]) == [Conflict("b", "a", "a")]
    assert str(check_set([cluster("a", hostnames=["b"]), cluster("b")])[0]) == "b belongs to UpstreamCluster a"


def test_a_wildcard_and_a_name_below_it_do_not_collide() -> None:
    assert check_set([cluster("a", hostnames=["*.x"]), cluster("b", hostnames=["one.x"])]) == []


def test_the_shared_certificate_case_is_good() -> None:
    assert parse(document(spec(serving=PAIR))).serving.certificate is not None
