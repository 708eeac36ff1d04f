"""Wrong values are refused, and the words say what to set instead."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHART = Path(__file__).resolve().parents[2]

# Values that must not render → what the refusal must name. Every `fail` of requirements.yaml has a row.
COMBINATIONS = [
    (("brain.replicas=2",), "brain.replicas=1"),
    (("brain.persistence.enabled=false",), "brain.persistence.acceptDataLoss=true"),
    (("brain.persistence.size=4Gi",), "Raise brain.persistence.size"),
    (("brain.tls.secretName=",), "name it in brain.tls.secretName"),
    (("brain.tls.enabled=false",), "brain.tls.acceptPlaintext=true"),
    (("brain.service.type=LoadBalancer", "brain.tls.clientCertAuth=false"), "brain.service.type=ClusterIP"),
    (("brain.serviceMonitor.enabled=true",), "Prometheus operator's CRDs"),
    (('brain.extraArgs=["--data-dir=/tmp/x"]',), "brain.persistence"),
    (('brain.extraArgs=["--unsafe-no-fsync"]',), "acceptDataLoss"),
]

# Values that the schema refuses by themselves.
SINGLE = [
    "brain.replicas=-1",
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


def refusal(render: Callable[..., Any], *pairs: str) -> str:
    """Helm's words on values it must not render."""
    try:
        render(*pairs)
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


def test_every_requirement_is_tried() -> None:
    requirements = (CHART / "templates" / "requirements.yaml").read_text()
    assert len(re.findall(r"\bfail\b \(?", requirements)) == len(COMBINATIONS)


@pytest.mark.parametrize("pair", SINGLE)
def test_a_wrong_value_is_refused_by_the_schema(render: Callable[..., Any], pair: str) -> None:
    assert "don't meet the specifications of the schema" in refusal(render, pair)


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ("brain.replicas=0",),
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


def test_lint_is_clean(helm: Path) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", str(CHART), "--set", "brain.tls.secretName=x", "--kube-version", "1.36.3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
