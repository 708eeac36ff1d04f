"""What the chart makes of good values for brains on a shared store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Documents = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Documents]
URLS = {
    "engine": "postgresql://wharf:p%40ss@pg:5432/wharf?sslmode=verify-full&sslrootcert=/etc/wharf/backing/ca.crt",
    "redis": "rediss://:pass@redis:6379/0?ssl_ca_certs=/etc/wharf/backing/ca.crt",
    "nats": "tls://nats:4222",
}
GIVEN = ("brain.replicated.existingSecret=", *(f"brain.replicated.urls.{key}={url}" for key, url in URLS.items()))


def deployment(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = documents["Deployment", "t-brain"]["spec"]
    return spec


def pod(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(documents)["template"]["spec"]
    return spec


def container(documents: Documents) -> dict[str, Any]:
    only: dict[str, Any]
    [only] = pod(documents)["containers"]
    return only


def test_a_deployment_takes_the_place_of_the_stateful_set(render: Render) -> None:
    assert {kind for kind, _ in render(replicated=True)} == {
        "ServiceAccount",
        "Service",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
    }


def test_three_nodes_by_default_replaced_one_by_one(render: Render) -> None:
    spec = deployment(render(replicated=True))
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert deployment(render("brain.replicas=0", replicated=True))["replicas"] == 0


def test_the_pod_has_no_more_rights_than_it_needs(render: Render) -> None:
    documents = render(replicated=True)
    assert pod(documents)["securityContext"]["runAsNonRoot"] is True
    assert pod(documents)["automountServiceAccountToken"] is False
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


PLAIN = (
    "brain.tls.enabled=false",
    "brain.tls.acceptPlaintext=true",
    "brain.replicated.peerTls.enabled=false",
    "brain.replicated.acceptPlaintext=true",
    "brain.replicated.backingTls.secretName=",
)


@pytest.mark.parametrize(
    ("pairs", "scheme"), [(("brain.replicated.backingTls.clientCert=true",), "https"), (PLAIN, "http")], ids=str
)
def test_flags_are_those_the_program_knows(render: Render, pairs: tuple[str, ...], scheme: str) -> None:
    from wharf.brain.config import SCHEMA
    from wharf.common.config import load

    one = container(render(*pairs, replicated=True))
    fields = {"$(POD_NAME)": "t-brain-x", "$(POD_IP)": "10.1.2.3"}
    arguments = list(one["args"])
    for name, value in fields.items():
        arguments = [word.replace(name, value) for word in arguments]
    assert {entry["name"] for entry in one["env"] if "fieldRef" in entry["valueFrom"]} == {"POD_NAME", "POD_IP"}
    environment = {entry["name"]: entry["valueFrom"].get("secretKeyRef", {}).get("key") for entry in one["env"]}
    shared = {name: URLS[key] for name, key in environment.items() if key}
    assert arguments[0] == "brain"
    loaded = load(SCHEMA, arguments[1:], shared)
    assert loaded.warnings == ()
    assert loaded.config.name == "t-brain-x"
    assert loaded.config.engine_url == URLS["engine"]
    assert loaded.config.peer_urls == (f"{scheme}://10.1.2.3:2380",)
    assert loaded.config.client_urls == (f"{scheme}://10.1.2.3:2379",)


def test_the_urls_come_from_the_secret_that_was_named(render: Render) -> None:
    documents = render(replicated=True)
    assert not [name for kind, name in documents if kind == "Secret"]
    references = [entry["valueFrom"].get("secretKeyRef") for entry in container(documents)["env"]]
    assert [one for one in references if one] == [
        {"name": "brain-urls", "key": "engine"},
        {"name": "brain-urls", "key": "redis"},
        {"name": "brain-urls", "key": "nats", "optional": True},
    ]


def test_urls_among_the_values_become_a_secret_and_nothing_else(render: Render) -> None:
    documents = render(*GIVEN, replicated=True)
    assert documents["Secret", "t-brain"]["stringData"] == URLS
    del documents["Secret", "t-brain"]
    assert "p%40ss" not in str(documents)


def test_new_urls_start_new_pods(render: Render) -> None:
    def annotations(*pairs: str) -> Any:
        return deployment(render(*pairs, replicated=True))["template"]["metadata"]["annotations"]

    before = annotations(*GIVEN, 'brain.podAnnotations={"a":"b"}')
    assert before["a"] == "b"
    assert annotations(*GIVEN, "brain.replicated.urls.nats=tls://other:4222") != before


def test_the_control_port_asks_brains_for_their_own_certificate(render: Render) -> None:
    documents = render(replicated=True)
    args = container(documents)["args"]
    assert "--listen-peer-urls=https://0.0.0.0:2380" in args
    assert "--initial-advertise-peer-urls=https://$(POD_IP):2380" in args
    assert "--peer-client-cert-auth" in args
    assert "--peer-trusted-ca-file=/etc/wharf/peer/ca.crt" in args
    assert "--peer-server-name=t-brain-nodes.kube-store.svc" in args
    mounts = {one["name"]: one["mountPath"] for one in container(documents)["volumeMounts"]}
    assert mounts == {
        "data": "/var/lib/wharf",
        "tls": "/etc/wharf/tls",
        "peer": "/etc/wharf/peer",
        "backing": "/etc/wharf/backing",
    }
    secrets = {one["name"]: one["secret"] for one in pod(documents)["volumes"] if "secret" in one}
    assert secrets["peer"] == {"secretName": "brain-peer", "defaultMode": 0o440}


def test_plaintext_has_no_trace_of_tls(render: Render) -> None:
    documents = render(*PLAIN, replicated=True, tls=False)
    args = container(documents)["args"]
    assert "--initial-advertise-peer-urls=http://$(POD_IP):2380" in args
    assert "--unsafe-no-peer-tls" in args
    assert not [word for word in args if "cert" in word or "ca-file" in word]
    assert [one["name"] for one in pod(documents)["volumes"]] == ["data"]


def test_what_a_pod_keeps_goes_with_it(render: Render) -> None:
    volumes = pod(render("brain.replicated.scratchSize=16Gi", replicated=True))["volumes"]
    assert {"name": "data", "emptyDir": {"sizeLimit": "16Gi"}} in volumes


def test_a_pod_that_goes_is_out_of_the_service_before_it_drains(render: Render) -> None:
    documents = render("brain.replicated.drainDelaySeconds=7", replicated=True)
    assert container(documents)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]
    assert pod(documents)["terminationGracePeriodSeconds"] == 37
    assert "lifecycle" not in container(render("brain.replicated.drainDelaySeconds=0", replicated=True))


@pytest.mark.parametrize("spread", ["ScheduleAnyway", "DoNotSchedule"])
def test_pods_are_spread_over_nodes_and_zones(render: Render, spread: str) -> None:
    documents = render(f"brain.replicated.spread={spread}", replicated=True)
    constraints = pod(documents)["topologySpreadConstraints"]
    assert {one["topologyKey"]: one["whenUnsatisfiable"] for one in constraints} == {
        "kubernetes.io/hostname": spread,
        "topology.kubernetes.io/zone": "ScheduleAnyway",
    }
    labels = deployment(documents)["template"]["metadata"]["labels"]
    for one in constraints:
        assert one["labelSelector"]["matchLabels"].items() <= labels.items()


def test_one_pod_at_a_time_may_be_evicted(render: Render) -> None:
    assert render(replicated=True)["PodDisruptionBudget", "t-brain"]["spec"]["maxUnavailable"] == 1


def test_the_control_port_is_open_between_brains_only(render: Render) -> None:
    documents = render(replicated=True)
    spec = documents["NetworkPolicy", "t-brain"]["spec"]
    brains = [{"podSelector": {"matchLabels": spec["podSelector"]["matchLabels"]}}]
    assert spec["ingress"] == [
        {"ports": [{"port": "client"}], "from": [{"podSelector": {}}]},
        {"ports": [{"port": "control"}], "from": brains},
    ]
    names = [{"port": 53, "protocol": "UDP"}, {"port": 53}]
    backing = [{"port": 5432}, {"port": 6379}, {"port": 4222}]
    assert spec["egress"] == [{"ports": [{"port": "control"}], "to": brains}, {"ports": backing}, {"ports": names}]


def test_the_way_to_what_is_shared_can_be_narrowed(render: Render) -> None:
    pairs = (
        "brain.networkPolicy.backing.ports=[5433]",
        'brain.networkPolicy.backing.peers=[{"ipBlock":{"cidr":"10.0.0.0/28"}}]',
        "brain.otlpEndpoint=collector:4317",
    )
    egress = render(*pairs, replicated=True)["NetworkPolicy", "t-brain"]["spec"]["egress"]
    assert {"ports": [{"port": 5433}], "to": [{"ipBlock": {"cidr": "10.0.0.0/28"}}]} in egress
    assert {"ports": [{"port": 4317}]} in egress


def test_services_reach_the_pods(render: Render) -> None:
    documents = render(replicated=True)
    labels = deployment(documents)["template"]["metadata"]["labels"]
    for name in ("t-brain", "t-brain-nodes"):
        assert documents["Service", name]["spec"]["selector"].items() <= labels.items()
