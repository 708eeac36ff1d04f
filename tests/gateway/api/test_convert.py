"""KubeGateway's documents become ours: each field, each trap of theirs with its warning, and the wrong ones refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from wharf.gateway.api import shapes
from wharf.gateway.api.convert import Converted, convert, is_theirs
from wharf.gateway.api.kubegateway import API_VERSION, GATES
from wharf.gateway.api.parse import Invalid, parse_cluster
from wire.pki import Authority

Json = dict[str, Any]
ALL: Json = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "nonResourceURLs": ["*"]}


def theirs(name: str = "blue.example.com", annotations: Json | None = None, **parts: Any) -> Json:
    spec = {
        "servers": [{"endpoint": "https://10.0.0.1:6443"}, {"endpoint": "https://10.0.0.2:6443"}],
        "dispatchPolicies": [{"rules": [ALL]}],
        **parts,
    }
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": API_VERSION, "kind": "UpstreamCluster", "metadata": metadata, "spec": spec}


def policy(**parts: Any) -> Json:
    return theirs(dispatchPolicies=[{"rules": [ALL], **parts}])


def limit(**parts: Any) -> Json:
    return theirs(flowControl={"flowControlSchemas": [{"name": "limit", **parts}]})


def encoded(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


def cluster(converted: Converted) -> shapes.UpstreamCluster:
    return parse_cluster(converted.document)


def warned(converted: Converted, path: str) -> str:
    return "; ".join(problem.text for problem in converted.warnings if problem.path == path)


def refused(document: Json) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        convert(document)
    return {problem.path: problem.text for problem in caught.value.problems}


def test_the_smallest_cluster() -> None:
    found = cluster(convert(theirs()))
    assert [server.url for server in found.servers] == ["https://10.0.0.1:6443", "https://10.0.0.2:6443"]
    assert found.policies == (shapes.Policy("policy-1"),)
    assert found.upstream == shapes.Upstream(identity=shapes.IdentityMode.IMPERSONATION, server_name="blue.example.com")


def test_a_whole_cluster(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    pair = ca.issue("gateway")
    material = {"certData": encoded(pair.cert), "keyData": encoded(pair.key)}
    document = theirs(
        "Blue.Example.COM",
        {GATES: "CloseConnectionWhenIdle=true, DenyAllRequests=false,GlobalRateLimiter=true", "team": "a"},
        servers=[{"endpoint": "HTTPS://10.0.0.1:6443/", "disabled": True}, {"endpoint": "https://10.0.0.2:6443"}],
        secureServing={**material, "clientCAData": encoded(ca.ca_file), "serverNames": ["Blue", "blue.internal"]},
        clientConfig={**material, "caData": encoded(ca.ca_file), "serverName": "kubernetes"},
        flowControl={
            "flowControlSchemas": [
                {"name": "free", "exempt": {}},
                {"name": "some", "maxRequestsInflight": {"max": 10}},
                {
                    "name": "fast",
                    "strategy": "globalCount",
                    "tokenBucket": {"qps": 5, "burst": 9},
                    "globalTokenBucket": {"qps": 50, "burst": 90},
                },
            ]
        },
        logging={"mode": "on"},
        dispatchPolicies=[
            {
                "strategy": "RoundRobin",
                "upstreamSubset": ["https://10.0.0.2:6443"],
                "flowControlSchemaName": "fast",
                "logMode": "off",
                "rules": [{**ALL, "verbs": ["get", "list"], "nonResourceURLs": []}],
            },
            {"rules": [ALL], "logMode": "on"},
        ],
    )
    converted = convert(document)
    assert converted.document["metadata"] == {"name": "blue.example.com", "annotations": {"team": "a"}}
    found = cluster(converted)
    assert found.hostnames == ("blue", "blue.internal")
    assert found.servers[0].disabled
    assert found.servers[0].name == "10.0.0.1:6443"
    assert found.serving.client_ca == shapes.Material(Path(ca.ca_file).read_bytes())
    assert found.upstream.certificate == shapes.Material(Path(pair.cert).read_bytes())
    assert found.upstream.server_name == "kubernetes"
    assert found.schemas[0] == shapes.Schema("free")
    assert found.schemas[1] == shapes.Schema("some", 10, watch_class=shapes.WatchClass.SAME)
    assert found.schemas[2] == shapes.Schema(
        "fast", qps=50.0, burst=90, scope=shapes.Scope.GLOBAL, watch_class=shapes.WatchClass.START
    )
    first, second = found.policies
    assert first.servers == ("10.0.0.2:6443",)
    assert first.flow_control == ("fast",)
    assert first.access_log is False
    assert first.rules == (shapes.Rule(verbs=("get", "list"), resources=("*",)),)
    assert second.access_log is True
    assert found.logging.access
    assert found.features == shapes.Features(close_idle=True)
    assert found.authentication.tokens is shapes.TokenMode.PASS_THROUGH


def test_the_misspelt_subset_is_taken_with_a_warning() -> None:
    converted = convert(policy(upsteamSubset=["https://10.0.0.1:6443"]))
    assert cluster(converted).policies[0].servers == ("10.0.0.1:6443",)
    assert "misspelt" in warned(converted, "spec.dispatchPolicies[0].upsteamSubset")


def test_rules_that_look_at_users_need_reviews() -> None:
    document = policy(rules=[{**ALL, "users": ["alice"]}])
    document["spec"]["clientConfig"] = {"bearerToken": base64.b64encode(b"abc").decode()}
    found = cluster(convert(document))
    assert found.authentication.tokens is shapes.TokenMode.REVIEW
    assert found.upstream.token == shapes.Material(b"abc")
    assert "spec.clientConfig.certData" in refused(policy(rules=[{**ALL, "users": ["alice"]}]))


@pytest.mark.parametrize(
    ("schema", "scope", "word"),
    [
        ({"strategy": "globalCount", "maxRequestsInflight": {"max": 1}}, "Local", "needs both"),
        ({"globalMaxRequestsInflight": {"max": 9}, "maxRequestsInflight": {"max": 1}}, "Local", "needs both"),
        (
            {"strategy": "globalAllocate", "globalMaxRequestsInflight": {"max": 9}, "maxRequestsInflight": {"max": 1}},
            "Global",
            "feature gate",
        ),
        ({"strategy": "local", "maxRequestsInflight": {"max": 1}}, "Local", ""),
    ],
)
def test_limits_are_global_where_theirs_were_meant_to_be(schema: Json, scope: str, word: str) -> None:
    converted = convert(limit(**schema))
    assert cluster(converted).schemas[0].scope.value == scope
    assert cluster(converted).schemas[0].max_in_flight == (9 if scope == "Global" else 1)
    told = warned(converted, "spec.flowControl.flowControlSchemas[0]")
    assert (word in told) if word else not told


def test_a_policy_that_matches_nothing_is_left_out_and_paths_stay_theirs() -> None:
    nothing = {"rules": [{"verbs": ["get"]}]}
    converted = convert(theirs(dispatchPolicies=[nothing, {"rules": [{"verbs": ["get"]}, ALL]}]))
    assert [one.name for one in cluster(converted).policies] == ["policy-2"]
    assert "left out" in warned(converted, "spec.dispatchPolicies[0]")
    wrong = {"rules": [{"verbs": ["get"]}, {**ALL, "verbs": ["lsit"]}]}
    assert "spec.dispatchPolicies[1].rules[1].verbs[0]" in refused(theirs(dispatchPolicies=[nothing, wrong]))


def test_plain_http_has_no_server_name_and_some_gates_stay_off() -> None:
    one = theirs(servers=[{"endpoint": "http://10.0.0.1:8080"}], annotations={GATES: "Tracing=f"})
    found = cluster(convert(one))
    assert found.upstream.server_name == ""
    assert found.tracing.ratio == 0


def test_switches_of_the_annotation() -> None:
    converted = convert(theirs(annotations={GATES: "DenyAllRequests=true,Tracing=true"}))
    assert cluster(converted).features.deny_all
    assert cluster(converted).tracing.ratio == 1
    assert "tracing.ratio" in warned(converted, f"metadata.annotations[{GATES}]")


def test_what_has_no_counterpart_is_told() -> None:
    one = theirs(
        clientConfig={"insecure": True, "caData": base64.b64encode(b"x").decode(), "qps": 5, "burst": 9},
        secureServing={"certData": base64.b64encode(b"x").decode()},
    )
    converted = convert(one)
    assert cluster(converted).upstream.insecure_skip_verify
    assert "no counterpart" in warned(converted, "spec.clientConfig.qps")
    assert "beside insecure" in warned(converted, "spec.clientConfig.caData")
    assert "alone was ignored" in warned(converted, "spec.secureServing")
    assert "control plane" in warned(converted, "spec.secureServing.clientCAData")
    assert "PassThrough" in warned(converted, "spec")


def test_logging_that_is_off_wins() -> None:
    one = policy(logMode="on")
    one["spec"]["logging"] = {"mode": "off"}
    found = cluster(convert(one))
    assert not found.logging.access
    assert found.policies[0].access_log is False


@pytest.mark.parametrize(
    ("document", "path", "word"),
    [
        (theirs(servers=[]), "spec.servers", "1 to"),
        (theirs(servers=[{"endpoint": "10.0.0.1:6443"}]), "spec.servers[0].endpoint", "https://"),
        (theirs(servers=[{"endpont": "https://a"}]), "spec.servers[0].endpont", "did you mean endpoint"),
        (theirs(secureServing={"keyData": "%"}), "spec.secureServing.keyData", "base64"),
        (theirs(secureServing={"clientCAData": "eA=="}), "spec.secureServing.clientCAData", "PEM certificate"),
        (theirs(secureServing={"serverNames": ["a b"]}), "spec.secureServing.serverNames[0]", "DNS name"),
        (policy(strategy="Random"), "spec.dispatchPolicies[0].strategy", "RoundRobin"),
        (policy(upstreamSubset=["https://x"]), "spec.dispatchPolicies[0].upstreamSubset[0]", "not a server"),
        (policy(flowControlSchemaName="x"), "spec.dispatchPolicies[0].flowControlSchemaName", "schemas"),
        (policy(logMode="yes"), "spec.dispatchPolicies[0].logMode", "on, off"),
        (policy(rules=[{**ALL, "verbs": ["get", "lsit"]}]), "spec.dispatchPolicies[0].rules[0].verbs[1]", "verb"),
        (policy(rules=[{**ALL, "userGroups": ["a*b"]}]), "spec.dispatchPolicies[0].rules[0].userGroups[0]", "prefix"),
        (limit(), "spec.flowControl.flowControlSchemas[0]", "exactly one"),
        (limit(tokenBucket={"qps": 0}), "spec.flowControl.flowControlSchemas[0].tokenBucket.qps", "1 to"),
        (limit(exempt={}, tokenBucket={"qps": 1}), "spec.flowControl.flowControlSchemas[0]", "exactly one"),
        (theirs("blue_green"), "metadata.name", "Kubernetes name"),
        (theirs(annotations={GATES: "Tracin=true"}), f"metadata.annotations[{GATES}]", "did you mean Tracing"),
        (theirs(annotations={GATES: "Tracing=maybe"}), f"metadata.annotations[{GATES}]", "boolean"),
        (policy(rules=[{"verbs": ["get"]}]), "spec.dispatchPolicies", "no policy matches"),
        (theirs(dispatchPolicies=[{"rules": []}]), "spec.dispatchPolicies[0].rules", "1 to"),
    ],
)
def test_wrong_documents_are_refused_with_the_path_in_theirs(document: Json, path: str, word: str) -> None:
    found = refused(document)
    assert word in found[path], found


def test_secrets_are_not_repeated_in_problems() -> None:
    assert "hunter2" not in str(refused(theirs(secureServing={"keyData": "hunter2!"})))


def test_other_documents_are_not_ours_to_convert() -> None:
    assert is_theirs(theirs())
    assert not is_theirs({"apiVersion": API_VERSION, "kind": "RateLimitCondition"})
    assert not is_theirs({"apiVersion": "proxy.wharf.dev/v1alpha1", "kind": "UpstreamCluster"})
