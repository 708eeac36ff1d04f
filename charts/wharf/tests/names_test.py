"""Where what is: one template per component and kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Render = Callable[..., dict[tuple[str, str], dict[str, Any]]]
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
MONITORS = (
    "brain.serviceMonitor.enabled=true",
    "brain.prometheusRule.enabled=true",
    "gateway.serviceMonitor.enabled=true",
)
BOTH = ("gateway.enabled=true", "gateway.autoscaling.enabled=true", *MONITORS)
BRAIN_URLS = (
    "brain.replicated.existingSecret=",
    "brain.replicated.urls.engine=postgresql://pg/w?sslmode=verify-full",
    "brain.replicated.urls.redis=rediss://redis",
)
GATEWAY_URLS = ("gateway.shared.urls.redis=rediss://redis",)


def test_every_template_is_named_after_its_component_and_kind(render: Render) -> None:
    prometheus = ("monitoring.coreos.com/v1",)
    objects = render(*BOTH, *GATEWAY_URLS, 'gateway.rbac.endpointSlices=["default"]', apis=prometheus)
    documents = render(*BOTH, *BRAIN_URLS, 'gateway.clusters={"a":{}}', replicated=True, apis=prometheus)
    names = {
        f"{one['metadata']['labels']['app.kubernetes.io/component']}-{one['kind'].lower()}.yaml"
        for one in (*objects.values(), *documents.values())
    }
    requirements = {"requirements.yaml", "gateway-requirements.yaml"}
    assert {path.name for path in TEMPLATES.glob("*.yaml")} == names | requirements
