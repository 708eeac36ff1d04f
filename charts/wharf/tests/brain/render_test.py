"""What the chart makes of good values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Render = Callable[..., dict[tuple[str, str], dict[str, Any]]]


def container(documents: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    only: dict[str, Any]
    [only] = documents["StatefulSet", "t-brain"]["spec"]["template"]["spec"]["containers"]
    return only


def test_defaults_with_a_certificate_are_a_whole_deployment(render: Render) -> None:
    assert {kind for kind, _ in render()} == {
        "ServiceAccount",
        "Service",
        "StatefulSet",
        "NetworkPolicy",
        "PodDisruptionBudget",
    }


def test_the_pod_has_no_more_rights_than_it_needs(render: Render) -> None:
    pod = render()["StatefulSet", "t-brain"]["spec"]["template"]["spec"]
    [one] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_clients_must_show_a_certificate_by_default(render: Render) -> None:
    args = container(render())["args"]
    assert "--client-cert-auth" in args
    assert "--trusted-ca-file=/etc/wharf/tls/ca.crt" in args
    assert "--listen-client-urls=https://0.0.0.0:2379" in args


def test_plaintext_has_no_trace_of_tls(render: Render) -> None:
    documents = render("brain.tls.enabled=false", "brain.tls.acceptPlaintext=true", tls=False)
    args = container(documents)["args"]
    assert "--listen-client-urls=http://0.0.0.0:2379" in args
    assert not [word for word in args if "cert" in word or "ca-file" in word]
    assert [mount["name"] for mount in container(documents)["volumeMounts"]] == ["data"]


def test_flags_are_those_the_program_knows(render: Render) -> None:
    from wharf.brain.config import SCHEMA
    from wharf.common.config import load

    arguments = [word.replace("$(POD_NAME)", "t-brain-0") for word in container(render())["args"]]
    assert arguments[0] == "brain"
    loaded = load(SCHEMA, arguments[1:], {})
    assert loaded.config.name == "t-brain-0"
    assert str(loaded.config.data_dir) == "/var/lib/wharf/brain"


def test_workers_are_a_flag(render: Render) -> None:
    assert "--workers=3" in container(render("brain.workers=3"))["args"]
    assert not [word for word in container(render())["args"] if word.startswith("--workers")]


def test_the_volume_is_kept_when_the_release_goes(render: Render) -> None:
    spec = render()["StatefulSet", "t-brain"]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]


def test_without_persistence_the_store_is_an_empty_dir(render: Render) -> None:
    spec = render("brain.persistence.enabled=false", "brain.persistence.acceptDataLoss=true")["StatefulSet", "t-brain"]
    assert "volumeClaimTemplates" not in spec["spec"]
    assert {"name": "data", "emptyDir": {"sizeLimit": "8Gi"}} in spec["spec"]["template"]["spec"]["volumes"]


def test_probes_use_the_health_port(render: Render) -> None:
    one = container(render())
    assert {probe: one[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "startupProbe": "health",
        "livenessProbe": "health",
        "readinessProbe": "health",
    }


def test_services_reach_the_pod(render: Render) -> None:
    documents = render()
    labels = documents["StatefulSet", "t-brain"]["spec"]["template"]["metadata"]["labels"]
    for name in ("t-brain", "t-brain-nodes"):
        assert documents["Service", name]["spec"]["selector"].items() <= labels.items()
    assert [port["port"] for port in documents["Service", "t-brain"]["spec"]["ports"]] == [2379]


def test_the_network_policy_opens_only_the_client_port(render: Render) -> None:
    spec = render()["NetworkPolicy", "t-brain"]["spec"]
    assert spec["ingress"] == [{"ports": [{"port": "client"}], "from": [{"podSelector": {}}]}]
    assert spec["egress"] == []


def test_named_clients_replace_the_namespace(render: Render) -> None:
    peers = '[{"ipBlock":{"cidr":"10.0.0.0/28"}}]'
    spec = render(f"brain.networkPolicy.clients={peers}")["NetworkPolicy", "t-brain"]["spec"]
    assert spec["ingress"][0]["from"] == [{"ipBlock": {"cidr": "10.0.0.0/28"}}]


def test_the_service_monitor_selects_the_service_with_the_health_port(render: Render) -> None:
    documents = render("brain.serviceMonitor.enabled=true", apis=("monitoring.coreos.com/v1",))
    wanted = documents["ServiceMonitor", "t-brain"]["spec"]["selector"]["matchLabels"]
    matching = [
        name
        for (kind, name), document in documents.items()
        if kind == "Service" and wanted.items() <= document["metadata"]["labels"].items()
    ]
    assert matching == ["t-brain-nodes"]


def test_alerts_tell_that_no_leader_can_prove_itself(render: Render) -> None:
    documents = render("brain.prometheusRule.enabled=true", apis=("monitoring.coreos.com/v1",))
    [group] = documents["PrometheusRule", "t-brain"]["spec"]["groups"]
    alerts = {rule["alert"]: rule for rule in group["rules"]}
    rule = alerts["WharfBrainNoLeader"]
    assert 'etcd_server_has_leader{namespace="kube-store", service="t-brain-nodes"}' in rule["expr"]
    assert rule["labels"]["severity"] == "critical"
    assert "Redis" in rule["annotations"]["description"]
    assert "wharf_brain_lag_seconds" in alerts["WharfBrainLagging"]["expr"]


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        ("brain.networkPolicy.enabled=false", "NetworkPolicy"),
        ("brain.podDisruptionBudget.enabled=false", "PodDisruptionBudget"),
    ],
)
def test_optional_parts_can_be_left_out(render: Render, pair: str, kind: str) -> None:
    assert kind not in {found for found, _ in render(pair)}


def test_without_brain_nothing_of_it_is_left(render: Render) -> None:
    for replicated in (False, True):
        documents = render("brain.enabled=false", "gateway.enabled=true", replicated=replicated)
        components = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in documents.values()}
        assert components == {"gateway"}
