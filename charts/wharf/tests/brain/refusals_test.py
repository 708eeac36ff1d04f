"""Wrong values are refused, and the words say what to set instead."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHART = Path(__file__).resolve().parents[2]

# Values that must not render → what the refusal must name. Every `fail` of requirements.yaml has a row, here or below.
COMBINATIONS = [
    (("brain.enabled=false",), "Set one of them to true"),
    (("brain.replicas=2",), "brain.replicas=1"),
    (("brain.replicated.existingSecret=x",), "brain.mode=replicated"),
    (("brain.persistence.enabled=false",), "brain.persistence.acceptDataLoss=true"),
    (("brain.persistence.size=4Gi",), "Raise brain.persistence.size"),
    (("brain.tls.secretName=",), "name it in brain.tls.secretName"),
    (("brain.tls.enabled=false",), "brain.tls.acceptPlaintext=true"),
    (("brain.service.type=LoadBalancer", "brain.tls.clientCertAuth=false"), "brain.service.type=ClusterIP"),
    (("brain.serviceMonitor.enabled=true",), "Prometheus operator's CRDs"),
    (("brain.prometheusRule.enabled=true",), "brain.prometheusRule.enabled=false"),
    (('brain.extraArgs=["--data-dir=/tmp/x"]',), "brain.persistence"),
    (('brain.extraArgs=["--unsafe-no-fsync"]',), "acceptDataLoss"),
]

URLS = (
    "brain.replicated.existingSecret=",
    "brain.replicated.urls.engine=postgresql://wharf:secret@pg/wharf?sslmode=verify-full",
    "brain.replicated.urls.redis=rediss://:secret@redis:6379/0",
)

# The same on top of a good replicated release.
REPLICATED_COMBINATIONS = [
    (("brain.workers=2",), "brain.replicas for more nodes"),
    (("brain.replicated.urls.redis=rediss://redis",), "Keep one"),
    (("brain.replicated.existingSecret=",), "brain.replicated.urls.engine"),
    ((*URLS, "brain.replicated.urls.redis="), "brain.replicated.urls.redis"),
    (("brain.replicated.peerTls.secretName=",), "name it in brain.replicated.peerTls.secretName"),
    (("brain.replicated.peerTls.enabled=false",), "brain.replicated.acceptPlaintext=true"),
    ((*URLS, "brain.replicated.urls.engine=postgresql://pg/wharf?sslmode=require"), "sslmode=verify-full"),
    ((*URLS, "brain.replicated.urls.redis=redis://redis:6379/0"), "rediss://"),
    (
        (*URLS, "brain.replicated.urls.nats=nats://nats:4222", "brain.replicated.backingTls.secretName="),
        "brain.replicated.backingTls.secretName",
    ),
    (
        ("brain.replicated.backingTls.clientCert=true", "brain.replicated.backingTls.secretName="),
        "brain.replicated.backingTls.clientCert=false",
    ),
    (("brain.replicated.scratchSize=4Gi",), "Raise brain.replicated.scratchSize"),
    (('brain.extraArgs=["--redis=redis://elsewhere"]',), "brain.replicated"),
]

# Refusals that ask the cluster what is in it: tests/cluster/test_chart.py.
ASK_THE_CLUSTER = 1

# Values that the schema refuses by themselves.
SINGLE = [
    "brain.mode=both",
    "brain.replicas=-1",
    "brain.replicated.urls.engine=mysql://db",
    "brain.replicated.urls.redis=memcached://cache",
    "brain.replicated.urls.nats=amqp://queue",
    "brain.replicated.electionTimeoutMs=10",
    "brain.replicated.scratchSize=much",
    "brain.replicated.spread=Never",
    "brain.networkPolicy.backing.ports=[]",
    "brain.image.pullPolicy=Sometimes",
    "brain.persistence.size=lots",
    "brain.persistence.accessMode=ReadWriteMany",
    "brain.quotaBackendBytes=1",
    "brain.logLevel=loud",
    "brain.otlpEndpoint=http://collector",
    "brain.service.type=ExternalName",
    "brain.unknown=1",
    "unknown=1",
    'brain.extraArgs=["positional"]',
    "fullnameOverride=-bad-",
]


def refusal(render: Callable[..., Any], *pairs: str, replicated: bool = False) -> str:
    """Helm's words on values it must not render."""
    try:
        render(*pairs, replicated=replicated)
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
    assert "requirements.yaml" in words


@pytest.mark.parametrize(("pairs", "remedy"), REPLICATED_COMBINATIONS, ids=lambda value: str(value)[-50:])
def test_a_wrong_replicated_release_is_refused_with_its_remedy(
    render: Callable[..., Any], pairs: tuple[str, ...], remedy: str
) -> None:
    words = refusal(render, *pairs, replicated=True)
    assert remedy in words
    assert "requirements.yaml" in words
    assert "secret@" not in words


def test_every_requirement_is_tried() -> None:
    requirements = (CHART / "templates" / "requirements.yaml").read_text()
    # Two rows each: half of the URLs missing or all of them, and a flag that the chart decides, in either mode.
    twice = 2
    tried = len(COMBINATIONS) + len(REPLICATED_COMBINATIONS) - twice
    assert len(re.findall(r"\bfail\b \(?", requirements)) == tried + ASK_THE_CLUSTER


@pytest.mark.parametrize("pair", SINGLE)
def test_a_wrong_value_is_refused_by_the_schema(render: Callable[..., Any], pair: str) -> None:
    assert "don't meet the specifications of the schema" in refusal(render, pair)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("brain.replicas=0",),
        ("brain.workers=2",),
        ("brain.persistence.size=1Ti",),
        ("brain.service.type=LoadBalancer",),
        ('brain.extraArgs=["--max-txn-ops=256"]',),
        ("brain.otlpEndpoint=collector.observability:4317",),
        (
            "brain.persistence.enabled=false",
            "brain.persistence.acceptDataLoss=true",
            'brain.extraArgs=["--unsafe-no-fsync"]',
        ),
        ("fullnameOverride=store",),
    ],
    ids=str,
)
def test_good_values_render(render: Callable[..., Any], pairs: tuple[str, ...]) -> None:
    assert render(*pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("brain.replicas=5",),
        URLS,
        (*URLS, "brain.replicated.urls.nats=tls://nats:4222", "brain.replicated.backingTls.clientCert=true"),
        (
            *URLS,
            "brain.replicated.urls.engine=postgresql://pg/wharf",
            "brain.replicated.urls.redis=redis://redis:6379/0",
            "brain.replicated.peerTls.enabled=false",
            "brain.replicated.acceptPlaintext=true",
        ),
        ("brain.persistence.enabled=false",),
        ("brain.replicated.drainDelaySeconds=0",),
        ("brain.replicated.spread=DoNotSchedule",),
    ],
    ids=str,
)
def test_good_replicated_values_render(render: Callable[..., Any], pairs: tuple[str, ...]) -> None:
    assert render(*pairs, replicated=True)


@pytest.mark.parametrize(
    "values",
    [
        "brain.tls.secretName=x",
        "brain.tls.secretName=x,brain.mode=replicated,brain.replicated.existingSecret=y,"
        "brain.replicated.peerTls.secretName=z",
    ],
)
def test_lint_is_clean(helm: Path, values: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", str(CHART), "--set", values, "--kube-version", "1.36.3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
