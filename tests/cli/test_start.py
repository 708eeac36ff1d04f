"""The steps of `wharf up`: under which umask each runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wharf.cli.embedded import start as module
from wharf.cli.embedded.identity import Identity
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Health
from wharf.cli.embedded.ports import Ports
from wharf.cli.embedded.start import Start, differences, different_releases, start
from wharf.cli.embedded.state import PartState, SystemState
from wharf.cli.embedded.system import BINARIES, Binary
from wharf.cli.errors import CommandError
from wharf.cli.kube.build import BuildError
from wharf.gateway.api.parse import API_VERSION


def umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_programs_are_built_under_the_user_s_umask_and_the_system_s_files_under_a_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def binaries(*_: object) -> dict[str, Binary]:
        seen["binaries"] = umask()
        return {name: Binary(tmp_path / name, "v1") for name in BINARIES}

    def build(*_: object) -> list[object]:
        seen["certificates"] = umask()
        return []

    def run(*_: object) -> int:
        seen["parts"] = umask()
        return 0

    monkeypatch.setattr(module, "_binaries", binaries)
    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "run_here", run)
    free = Ports(**dict.fromkeys(Ports.__dataclass_fields__, 0))
    start(Start(Layout(tmp_path / "system"), free, None, None, False))
    assert seen == {"binaries": 0o022, "certificates": 0o077, "parts": 0o077}


def system_state(*parts: tuple[str, str, str, str]) -> SystemState:
    """name, endpoint, health URL, version of each part."""
    me = Identity(1, 1, "")
    return SystemState(
        me,
        0.0,
        "/kubeconfig",
        tuple(
            PartState(name, me, "ready", 0.0, endpoint, version, "/log", (), 1.0, Health(health))
            for name, endpoint, health, version in parts
        ),
    )


RUNNING = system_state(
    ("brain", "https://127.0.0.1:12379", "http://127.0.0.1:12381/health", "0.1.0"),
    ("kube-apiserver", "https://127.0.0.1:26443", "https://127.0.0.1:26443/readyz", "v1.36.3"),
)


@pytest.mark.parametrize(
    ("asked", "release", "differs"),
    [
        ({}, None, []),
        ({"brain": 12379, "brain_health": 12381, "apiserver": 26443}, "1.36.3", []),
        ({"brain": 0}, "v1.36.3", []),
        ({"brain": 22379}, None, ["--brain-port 22379 is not its brain's (https://127.0.0.1:12379)"]),
        ({}, "1.35.0", ["its kube-apiserver is v1.36.3, not v1.35.0"]),
    ],
)
def test_what_is_asked_for_explicitly_is_compared_with_a_running_system(
    asked: dict[str, int], release: str | None, differs: list[str], tmp_path: Path
) -> None:
    assert differences(Start(Layout(tmp_path), Ports(**asked), release, None, True), RUNNING) == differs


def test_programs_of_different_releases_are_named() -> None:
    def programs(kubectl: str) -> dict[str, Binary]:
        return {"kube-apiserver": Binary(Path("a"), "v1.36.3"), "kubectl": Binary(Path("k"), kubectl)}

    assert different_releases(programs("v1.36.0")) == ""
    found = different_releases(programs("v1.31.14"))
    assert found == "the programs are of different releases: kube-apiserver v1.36.3, kubectl v1.31.14"


def test_programs_that_cannot_be_built_name_the_folder_as_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(*_: object, **__: object) -> Path:
        raise BuildError("no route to the module proxy")

    monkeypatch.setattr(module, "locate", locate)
    free = Ports(**dict.fromkeys(Ports.__dataclass_fields__, 0))
    with pytest.raises(CommandError, match=r"with --kube-bin DIR.*no route to the module proxy"):
        start(Start(Layout(tmp_path / "system"), free, None, None, False))


def test_flags_that_find_a_system_again_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Layout(tmp_path / "my system").flags == f" --dir '{tmp_path}/my system'"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Layout(tmp_path / "wharf").flags == ""


def test_a_document_that_claims_the_system_s_own_address_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_binaries", lambda *_: {name: Binary(tmp_path / name, "v1") for name in BINARIES})
    layout = Layout(tmp_path / "system")
    layout.make()
    other = {
        "apiVersion": API_VERSION,
        "kind": "UpstreamCluster",
        "metadata": {"name": "prod-a"},
        "spec": {"addresses": ["127.0.0.1"], "servers": [{"url": "https://127.0.0.1:1"}]},
    }
    (layout.clusters / "extra.yaml").write_text(yaml.safe_dump(other))
    free = Ports(**dict.fromkeys(Ports.__dataclass_fields__, 0))
    with pytest.raises(CommandError, match=r"extra.yaml: 127.0.0.1 belongs to UpstreamCluster wharf; give it another"):
        start(Start(layout, free, None, None, False))
