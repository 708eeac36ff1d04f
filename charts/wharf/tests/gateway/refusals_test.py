"""Wrong values for the gateway are refused, and the words say what to set instead."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway.api.documents import FULL

CHART = Path(__file__).resolve().parents[2]
CLUSTERS = 'gateway.clusters={"a":{"servers":[{"url":"https://a:6443"}]}}'
INLINE_KEY = {"a": {"upstream": {"key": {"pem": "-----BEGIN EC PRIVATE KEY-----\nsecret"}}}}
WITH_FILES = {"servers": [{"url": "https://a:6443"}], "serving": {"clientCA": {"file": "/etc/wharf/secrets/a/ca.crt"}}}
AFFINITY = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
        ]
    }
}
SCALING = "gateway.autoscaling.enabled=true"

# Values that must not render → what the refusal must name. Every `fail` of gateway-requirements.yaml has a row.
COMBINATIONS = [
    ((CLUSTERS, 'gateway.rbac.secrets={"edge":[]}'), "Mount Secrets with gateway.secrets"),
    (('gateway.secrets=["a"]',), "allow them in gateway.rbac.secrets"),
    ((f"gateway.clusters={json.dumps(INLINE_KEY)}",), "Put it into a Secret"),
    ((SCALING, "gateway.replicas=3"), "gateway.replicas=null"),
    ((SCALING, "gateway.autoscaling.minReplicas=7"), "Raise gateway.autoscaling.maxReplicas"),
    ((SCALING, "gateway.resources.requests=null"), "Set gateway.resources.requests.cpu"),
    (("gateway.service.externalTrafficPolicy=Local",), "gateway.service.type=LoadBalancer"),
    (("gateway.shared.existingSecret=x", "gateway.shared.urls.redis=rediss://:secret@redis"), "Keep one"),
    (("gateway.shared.urls.redis=redis://:secret@redis:6379/0",), "rediss://"),
    (("gateway.shared.urls.nats=nats://nats:4222",), "gateway.shared.tls.secretName"),
    (("gateway.shared.tls.clientCert=true",), "gateway.shared.tls.clientCert=false"),
    (("gateway.serviceMonitor.enabled=true",), "Prometheus operator's CRDs"),
    (('gateway.extraArgs=["--redis=redis://elsewhere"]',), "gateway.shared"),
]

# Values that the schema refuses by themselves.
SINGLE = [
    "gateway.enabled=maybe",
    "gateway.replicas=-1",
    "gateway.autoscaling.cpuPercent=0",
    "gateway.workers=0",
    'gateway.clusters={"Not_A_Name":{}}',
    'gateway.clusters={"a":"spec"}',
    'gateway.clusters={"a":{"servres":[{"url":"https://a:6443"}]}}',
    'gateway.clusters={"a":{"servers":[{"url":"https://a:6443","wieght":1}]}}',
    'gateway.clusters={"a":{"servers":[{"url":"https://a:6443","weight":-1}]}}',
    'gateway.clusters={"a":{"servers":[{"url":"https://a:6443"}],"serving":{"clientCA":{"file":"a","pem":"b"}}}}',
    'gateway.clusters={"a":{"servers":[{"url":"https://a:6443"}],"policies":[{"name":"p","rules":[{"verb":["get"]}]}]}}',
    'gateway.tolerations=[{"keys":"a"}]',
    'gateway.networkPolicy.clients=[{"podSelectors":{}}]',
    'gateway.affinity={"nodeAffinity":{"required":{}}}',
    'gateway.resources={"request":{"cpu":"1"}}',
    'gateway.secrets=["Not_A_Name"]',
    'gateway.rbac.secrets={"edge":"all"}',
    'gateway.rbac.endpointSlices=["a","a"]',
    'gateway.trustedProxies=["10.0.0.1"]',
    "gateway.shared.urls.redis=memcached://cache",
    "gateway.shared.urls.nats=amqp://queue",
    "gateway.drain.delaySeconds=-1",
    "gateway.drain.watchesSeconds=forever",
    "gateway.spread=Never",
    "gateway.image.pullPolicy=Sometimes",
    "gateway.logLevel=loud",
    "gateway.otlpEndpoint=http://collector",
    "gateway.service.type=ExternalName",
    "gateway.service.port=0",
    "gateway.service.externalTrafficPolicy=Both",
    "gateway.unknown=1",
    'gateway.extraArgs=["positional"]',
]


def refusal(render: Callable[..., Any], *pairs: str) -> str:
    """Helm's words on values it must not render."""
    try:
        render(*pairs, gateway=True)
    except Exception as refused:
        assert type(refused).__name__ == "Refused"  # noqa: PT017
        return str(refused)
    raise AssertionError(f"rendered in spite of {pairs}")


@pytest.mark.parametrize(("pairs", "remedy"), COMBINATIONS, ids=lambda value: str(value)[:50])
def test_a_wrong_combination_is_refused_with_its_remedy(
    render: Callable[..., Any], pairs: tuple[str, ...], remedy: str
) -> None:
    words = refusal(render, *pairs)
    assert remedy in words
    assert "gateway-requirements.yaml" in words
    assert "secret@" not in words


def test_every_requirement_is_tried() -> None:
    requirements = (CHART / "templates" / "gateway-requirements.yaml").read_text()
    assert len(re.findall(r"\bfail\b \(?", requirements)) == len(COMBINATIONS)


def test_nothing_is_refused_of_a_gateway_that_is_not_wanted(render: Callable[..., Any]) -> None:
    assert render("gateway.shared.tls.clientCert=true")


@pytest.mark.parametrize("pair", SINGLE)
def test_a_wrong_value_is_refused_by_the_schema(render: Callable[..., Any], pair: str) -> None:
    assert "don't meet the specifications of the schema" in refusal(render, pair)


@pytest.mark.parametrize(
    "pairs",
    [
        ("gateway.replicas=5",),
        (SCALING,),
        (CLUSTERS, 'gateway.secrets=["a.b"]'),
        (f"gateway.clusters={json.dumps({'a': FULL})}",),
        (f"gateway.clusters={json.dumps({'a': WITH_FILES})}",),
        (f"gateway.affinity={json.dumps(AFFINITY)}", 'gateway.tolerations=[{"key":"a","operator":"Exists"}]'),
        ('gateway.rbac.secrets={"edge":["a"],"certs":[]}', 'gateway.rbac.endpointSlices=["default"]'),
        ("gateway.shared.urls.redis=redis://redis", "gateway.shared.acceptPlaintext=true"),
        ("gateway.shared.urls.nats=nats://nats:4222", "gateway.shared.acceptPlaintext=true"),
        ("gateway.drain.delaySeconds=0", "gateway.drain.watchesSeconds=0", "gateway.drain.timeoutSeconds=0"),
        ("gateway.service.type=NodePort", "gateway.service.externalTrafficPolicy=Local"),
        ('gateway.extraArgs=["--connections-max=100"]',),
        ("fullnameOverride=front",),
    ],
    ids=str,
)
def test_good_values_render(render: Callable[..., Any], pairs: tuple[str, ...]) -> None:
    assert render(*pairs, gateway=True)


@pytest.mark.parametrize("values", ["brain.enabled=false", "brain.tls.secretName=x"])
def test_lint_is_clean(helm: Path, values: str) -> None:
    words = ["lint", "--strict", str(CHART), "--set", f"gateway.enabled=true,{values}", "--kube-version", "1.36.3"]
    done = subprocess.run([helm, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
