"""Real Helm over the real chart: render it, or learn why it refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from wharf.cli.kube.build import build

CHART = Path(__file__).resolve().parents[1]
KUBERNETES = "1.36.3"
TLS = ("brain.tls.secretName=brain-tls",)
REPLICATED = (
    "brain.mode=replicated",
    "brain.replicated.existingSecret=brain-urls",
    "brain.replicated.peerTls.secretName=brain-peer",
    "brain.replicated.backingTls.secretName=brain-backing",
)
GATEWAY = ("brain.enabled=false", "gateway.enabled=true")

Rendered = dict[tuple[str, str], dict[str, Any]]  # (kind, name) → document


class Refused(Exception):
    """Helm would not render; the text is what a person would read."""


@pytest.fixture(scope="session")
def helm() -> Path:
    return build(["helm"])["helm"]


def run(helm: Path, *words: str) -> str:
    done = subprocess.run([helm, *words], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


@pytest.fixture(scope="session")
def render(helm: Path) -> Callable[..., Rendered]:
    """Documents of the chart under `--set` pairs; Refused with Helm's words."""

    def rendered(
        *pairs: str, apis: tuple[str, ...] = (), tls: bool = True, replicated: bool = False, gateway: bool = False
    ) -> Rendered:
        """`gateway`: that alone, without brain."""
        words = ["template", "t", str(CHART), "--namespace", "kube-store", "--kube-version", KUBERNETES]
        given = (*(TLS if tls else ()), *(REPLICATED if replicated else ()), *(GATEWAY if gateway else ()))
        for pair in (*given, *pairs):
            words += ["--set-json" if pair.endswith(("]", "}")) else "--set", pair]
        for api in apis:
            words += ["--api-versions", api]
        documents = [document for document in yaml.safe_load_all(run(helm, *words)) if document]
        return {_key(document): document for document in documents}

    return rendered


def _key(document: dict[str, Any]) -> tuple[str, str]:
    """Kind and name; what is in another namespace than the release says so: "kube-other/name"."""
    metadata = document["metadata"]
    namespace = metadata.get("namespace", "kube-store")
    return document["kind"], metadata["name"] if namespace == "kube-store" else f"{namespace}/{metadata['name']}"
