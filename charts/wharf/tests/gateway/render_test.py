"""What the chart makes of good values for the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.config import GatewayConfig, load_config

Documents = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Documents]
CHART = Path(__file__).resolve().parents[2]
REDIS = "rediss://edge:p%40ss@redis:6379/0?ssl_ca_certs=/etc/wharf/shared/ca.crt"
SHARED = (
    f"gateway.shared.urls.redis={REDIS}",
    "gateway.shared.urls.nats=tls://nats:4222",
    "gateway.shared.tls.secretName=shared",
    "gateway.shared.tls.clientCert=true",
)
SPEC = {
    "servers": [{"url": "https://10.0.0.1:6443"}],
    "serving": {
        "clientCA": {"file": "/etc/wharf/secrets/prod-a/clients-ca.crt"},
    },
    "upstream": {
        "certificate": {"file": "/etc/wharf/secrets/prod-a/tls.crt"},
        "key": {"file": "/etc/wharf/secrets/prod-a/tls.key"},
    },
    "flowControl": {"schemas": [{"name": "many", "qps": 1000000, "burst": 1000000}]},
}
CLUSTERS = (f"gateway.clusters={json.dumps({'prod-a': SPEC})}", 'gateway.secrets=["prod-a"]')


def deployment(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = documents["Deployment", "t-gateway"]["spec"]
    return spec


def pod(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(documents)["template"]["spec"]
    return spec


def container(documents: Documents) -> dict[str, Any]:
    only: dict[str, Any]
    [only] = pod(documents)["containers"]
    return only


def config(documents: Documents) -> GatewayConfig:
    """The configuration the program makes of the container's words and environment."""
    one = container(documents)
    assert one["args"][0] == "gateway"
    secret = documents.get(("Secret", "t-gateway"), {"stringData": {}})["stringData"]
    references = {entry["name"]: entry["valueFrom"].get("secretKeyRef") for entry in one["env"]}
    environment = {name: secret[place["key"]] for name, place in references.items() if place and place["key"] in secret}
    loaded = load_config([word.replace("$(POD_NAME)", "t-gateway-x") for word in one["args"][1:]], environment)
    assert loaded.warnings == ()
    return loaded.config


def test_the_chart_has_none_unless_asked_for(render: Render) -> None:
    assert not [name for _, name in render() if "gateway" in name]


def test_the_gateway_alone_is_a_whole_deployment(render: Render) -> None:
    assert {kind for kind, _ in render(gateway=True)} == {
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Service",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
    }


def test_both_can_be_one_release(render: Render) -> None:
    documents = render("gateway.enabled=true")
    assert {("StatefulSet", "t-brain"), ("Deployment", "t-gateway")} <= set(documents)


def test_the_pod_has_no_more_rights_than_it_needs(render: Render) -> None:
    documents = render(gateway=True)
    assert pod(documents)["securityContext"]["runAsNonRoot"] is True
    assert pod(documents)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        CLUSTERS,
        SHARED,
        ("gateway.tls.secretName=listener",),
        ('gateway.trustedProxies=["10.0.0.0/8","fd00::/8"]', "gateway.otlpEndpoint=collector:4317"),
        ('gateway.extraArgs=["--zone=a"]', "gateway.workers=3"),
    ],
    ids=str,
)
def test_flags_are_those_the_program_knows(render: Render, pairs: tuple[str, ...]) -> None:
    found = config(render(*pairs, gateway=True))
    assert found.name == "t-gateway-x"
    assert [url.text for url in found.listen] == ["https://0.0.0.0:6443"]
    assert [url.text for url in found.health_listen] == ["http://0.0.0.0:6442"]


def test_what_is_shared_reaches_the_program_and_only_by_the_secret(render: Render) -> None:
    documents = render(*SHARED, gateway=True)
    found = config(documents)
    assert (found.redis, found.nats) == (REDIS, "tls://nats:4222")
    assert str(found.nats_key_file) == "/etc/wharf/shared/tls.key"
    del documents["Secret", "t-gateway"]
    assert "p%40ss" not in str(documents)


def test_a_secret_of_one_s_own_takes_its_place(render: Render) -> None:
    documents = render("gateway.shared.existingSecret=mine", gateway=True)
    assert not [name for kind, name in documents if kind == "Secret"]
    references = [entry["valueFrom"].get("secretKeyRef") for entry in container(documents)["env"]]
    assert [one for one in references if one] == [
        {"name": "mine", "key": "redis", "optional": True},
        {"name": "mine", "key": "nats", "optional": True},
    ]


def test_new_urls_start_new_pods(render: Render) -> None:
    def annotations(*pairs: str) -> Any:
        return deployment(render(*pairs, gateway=True))["template"]["metadata"]["annotations"]

    before = annotations(*SHARED, 'gateway.podAnnotations={"a":"b"}')
    assert before["a"] == "b"
    assert annotations(*SHARED, "gateway.shared.urls.nats=tls://other:4222") != before


# --- where the clusters are


def test_objects_need_the_token_and_documents_do_not(render: Render) -> None:
    objects, documents = render(gateway=True), render(*CLUSTERS, gateway=True)
    assert (pod(objects)["automountServiceAccountToken"], str(config(objects).home_kubeconfig)) == (True, "in-cluster")
    assert pod(documents)["automountServiceAccountToken"] is False
    assert str(config(documents).config_dir) == "/etc/wharf/clusters"
    assert not [kind for kind, _ in documents if "Role" in kind]
    assert objects["ServiceAccount", "t-gateway"]["automountServiceAccountToken"] is False


def test_documents_are_good_ones_with_their_secrets_mounted(render: Render) -> None:
    documents = render(*CLUSTERS, gateway=True)
    data = documents["ConfigMap", "t-gateway"]["data"]
    cluster = parse_cluster(json.loads(data["prod-a.json"]), files=True)
    assert cluster.name == "prod-a"
    assert cluster.schemas[0].qps == 1_000_000
    key = cluster.upstream.key
    assert key is not None
    mounts = {one["mountPath"]: one["name"] for one in container(documents)["volumeMounts"]}
    volumes = {one["name"]: one for one in pod(documents)["volumes"]}
    assert volumes[mounts[str(Path(key.file).parent)]]["secret"] == {"secretName": "prod-a", "defaultMode": 0o440}
    assert volumes[mounts["/etc/wharf/clusters"]]["configMap"] == {"name": "t-gateway"}


def test_a_document_is_only_what_the_gateway_reads(render: Render) -> None:
    """The same spec as an object: the apiserver checks it, the chart has no schema of its own for it."""
    crd = yaml.safe_load((CHART / "crds" / "upstreamclusters.yaml").read_text())
    [version] = [one["name"] for one in crd["spec"]["versions"]]
    document = json.loads(render(*CLUSTERS, gateway=True)["ConfigMap", "t-gateway"]["data"]["prod-a.json"])
    assert (document["apiVersion"], document["kind"]) == (
        f"{crd['spec']['group']}/{version}",
        crd["spec"]["names"]["kind"],
    )


def rules(documents: Documents, kind: str, name: str) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    return [
        (group, resource, tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in documents[kind, name]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


def test_it_may_read_clusters_and_what_it_was_granted_and_nothing_else(render: Render) -> None:
    grants = (
        'gateway.rbac.secrets={"edge":["a","b"],"kube-store":[]}',
        'gateway.rbac.endpointSlices=["default","edge"]',
    )
    documents = render(*grants, gateway=True)
    read, name = ("get", "list", "watch"), "t-gateway-kube-store"
    assert rules(documents, "ClusterRole", name) == [
        ("proxy.wharf.dev", "upstreamclusters", read, ()),
        ("proxy.wharf.dev", "upstreamclusters/status", ("patch",), ()),
    ]
    secrets, slices = ("", "secrets", read), ("discovery.k8s.io", "endpointslices", read, ())
    assert rules(documents, "Role", f"edge/{name}") == [(*secrets, ("a", "b")), slices]
    assert rules(documents, "Role", name) == [(*secrets, ())]
    assert rules(documents, "Role", f"default/{name}") == [slices]
    account = {"kind": "ServiceAccount", "name": "t-gateway", "namespace": "kube-store"}
    bindings = {key: one for key, one in documents.items() if key[0].endswith("Binding")}
    assert len(bindings) == 4
    for (kind, place), one in bindings.items():
        assert one["subjects"] == [account]
        assert (one["roleRef"]["kind"], place) in documents
        assert one["roleRef"]["name"] == name
        assert one["roleRef"]["kind"] == kind.removesuffix("Binding")


def test_rights_can_be_granted_elsewhere(render: Render) -> None:
    assert not [kind for kind, _ in render("gateway.rbac.create=false", gateway=True) if "Role" in kind]


# --- life


def test_a_pod_has_as_long_as_its_drain_takes(render: Render) -> None:
    drain = ("gateway.drain.delaySeconds=7", "gateway.drain.watchesSeconds=40", "gateway.drain.timeoutSeconds=600")
    documents = render(*drain, gateway=True)
    found = config(documents)
    assert (found.drain_delay, found.drain_watches, found.drain_timeout) == (7.0, 40.0, 600.0)
    assert pod(documents)["terminationGracePeriodSeconds"] == 7 + 40 + 600 + 10


def test_probes_use_the_health_port(render: Render) -> None:
    one = container(render(gateway=True))
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports == {"https": 6443, "health": 6442}
    assert one["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    assert one["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_two_pods_by_default_replaced_one_by_one(render: Render) -> None:
    spec = deployment(render(gateway=True))
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "25%"}
    assert deployment(render("gateway.replicas=0", gateway=True))["replicas"] == 0


def test_an_autoscaler_decides_alone(render: Render) -> None:
    pairs = ("gateway.autoscaling.enabled=true", "gateway.autoscaling.maxReplicas=9")
    documents = render(*pairs, gateway=True)
    assert "replicas" not in deployment(documents)
    spec = documents["HorizontalPodAutoscaler", "t-gateway"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "t-gateway"}


@pytest.mark.parametrize("spread", ["ScheduleAnyway", "DoNotSchedule"])
def test_pods_are_spread_over_nodes_and_zones(render: Render, spread: str) -> None:
    documents = render(f"gateway.spread={spread}", gateway=True)
    constraints = pod(documents)["topologySpreadConstraints"]
    assert {one["topologyKey"]: one["whenUnsatisfiable"] for one in constraints} == {
        "kubernetes.io/hostname": spread,
        "topology.kubernetes.io/zone": "ScheduleAnyway",
    }
    labels = deployment(documents)["template"]["metadata"]["labels"]
    for one in constraints:
        assert one["labelSelector"]["matchLabels"].items() <= labels.items()


def test_one_pod_at_a_time_may_be_evicted(render: Render) -> None:
    assert render(gateway=True)["PodDisruptionBudget", "t-gateway"]["spec"]["maxUnavailable"] == 1


# --- network


def test_services_reach_the_pods(render: Render) -> None:
    documents = render("gateway.enabled=true", "gateway.service.port=6443")
    labels = deployment(documents)["template"]["metadata"]["labels"]
    for name in ("t-gateway", "t-gateway-nodes"):
        assert documents["Service", name]["spec"]["selector"].items() <= labels.items()
    assert [port["port"] for port in documents["Service", "t-gateway"]["spec"]["ports"]] == [6443]
    brain = documents["StatefulSet", "t-brain"]["spec"]["template"]["metadata"]["labels"]
    assert not documents["Service", "t-gateway"]["spec"]["selector"].items() <= brain.items()


def test_clients_addresses_can_be_kept(render: Render) -> None:
    pairs = ("gateway.service.type=LoadBalancer", "gateway.service.externalTrafficPolicy=Local")
    assert render(*pairs, gateway=True)["Service", "t-gateway"]["spec"]["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in render(gateway=True)["Service", "t-gateway"]["spec"]


def test_the_network_policy_opens_the_port_of_clients(render: Render) -> None:
    spec = render(gateway=True)["NetworkPolicy", "t-gateway"]["spec"]
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress"], [{"ports": [{"port": "https"}]}])


def test_clients_and_monitoring_can_be_named(render: Render) -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/28"}}]
    pairs = (f"gateway.networkPolicy.{who}={json.dumps(peers)}" for who in ("clients", "monitoring"))
    spec = render(*pairs, gateway=True)["NetworkPolicy", "t-gateway"]["spec"]
    assert spec["ingress"] == [
        {"ports": [{"port": "https"}], "from": peers},
        {"ports": [{"port": "health"}], "from": peers},
    ]


def test_what_the_pods_may_reach_can_be_named(render: Render) -> None:
    rules = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/28"}}], "ports": [{"port": 6443}]}]
    documents = render(f"gateway.networkPolicy.egress={json.dumps(rules)}", gateway=True)
    spec = documents["NetworkPolicy", "t-gateway"]["spec"]
    assert (spec["policyTypes"], spec["egress"]) == (["Ingress", "Egress"], rules)


def test_the_service_monitor_selects_the_service_with_the_health_port(render: Render) -> None:
    documents = render("gateway.serviceMonitor.enabled=true", apis=("monitoring.coreos.com/v1",), gateway=True)
    wanted = documents["ServiceMonitor", "t-gateway"]["spec"]["selector"]["matchLabels"]
    matching = [
        name
        for (kind, name), document in documents.items()
        if kind == "Service" and wanted.items() <= document["metadata"]["labels"].items()
    ]
    assert matching == ["t-gateway-nodes"]


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        ("gateway.networkPolicy.enabled=false", "NetworkPolicy"),
        ("gateway.podDisruptionBudget.enabled=false", "PodDisruptionBudget"),
    ],
)
def test_optional_parts_can_be_left_out(render: Render, pair: str, kind: str) -> None:
    assert kind not in {found for found, _ in render(pair, gateway=True)}
