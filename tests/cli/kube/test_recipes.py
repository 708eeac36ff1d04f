"""The recipe table agrees with the Go modules in the tree, and versions are read as they are printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from wharf.cli.kube import toolchain
from wharf.cli.kube.build import source_tree
from wharf.cli.kube.recipes import (
    CONFORMANCE,
    RECIPES,
    NotPinnedError,
    Recipe,
    UnknownToolError,
    pinned_version,
    recipe,
    version_in,
)
from wharf.cli.kube.toolchain import GoMissingError, environment, find_go, go_version
from wharf.cli.kube.wrapper import ReleaseError, go_mod_text


@pytest.mark.parametrize("tool", RECIPES.values(), ids=lambda tool: tool.name)
def test_every_recipe_is_pinned_and_its_package_imported(tool: Recipe) -> None:
    module = source_tree() / tool.module
    version = pinned_version((module / "go.mod").read_text(), tool.requirement)
    assert version[0].isdigit()
    assert f'_ "{tool.package}"' in (module / "tools.go").read_text()
    assert f"{tool.requirement} v{version}" in (module / "go.sum").read_text()


def test_pinned_version_reads_block_and_single_requires() -> None:
    assert pinned_version("require a.b/c v1.2.3\n", "a.b/c") == "1.2.3"
    assert pinned_version("require (\n\ta.b/c v2.0.0+incompatible // x\n)\n", "a.b/c") == "2.0.0"
    with pytest.raises(NotPinnedError):
        pinned_version("require a.b/cd v1.2.3\n", "a.b/c")


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("Kubernetes v1.36.3\n", "1.36.3"),
        ("etcd Version: 3.6.5\nGit SHA: x\nGo Version: go1.26.8", "3.6.5"),
        ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", "1.32.4"),
        ("v3.21.4+gabc", "3.21.4"),
        ("dev", None),
    ],
)
def test_version_in(output: str, version: str | None) -> None:
    assert version_in(output) == version


def test_kubernetes_is_stamped_and_others_are_not() -> None:
    flags = recipe("kubelet").ldflags("1.36.3")
    assert "gitVersion=v1.36.3" in flags
    assert "gitMinor=36" in flags
    assert recipe("etcd").ldflags("3.6.5") == "-s -w"


def test_what_runs_in_an_image_is_linked_statically_and_tests_are_compiled_as_tests() -> None:
    assert "-extldflags -static -X" in recipe("agnhost").ldflags("1.36.3")
    assert recipe("agnhost").verb == ("build",)
    assert recipe("e2e.test").verb[:2] == ("test", "-c")


def test_setup_leaves_the_conformance_tests_to_whoever_wants_them() -> None:
    assert not any(recipe(name).in_setup for name in CONFORMANCE)


def test_unknown_tool_names_the_known_ones() -> None:
    with pytest.raises(UnknownToolError, match="kube-apiserver"):
        recipe("kube-ship")


def test_go_version() -> None:
    assert go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert go_version("nonsense") is None


def test_build_environment_is_closed() -> None:
    made = environment({"GOFLAGS": "-mod=mod", "GOOS": "plan9", "HOME": "/h"})
    assert made["GOTOOLCHAIN"] == "local"
    assert "-mod=mod" not in made["GOFLAGS"]
    assert "GOOS" not in made
    assert made["HOME"] == "/h"


def test_wrapper_points_staging_modules_at_the_same_release() -> None:
    release = "module k8s.io/kubernetes\n\ngo 1.25.0\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n"
    text = go_mod_text(release, "k8s.io/kubernetes", "1.35.4")
    assert "require k8s.io/kubernetes v1.35.4" in text
    assert "\tk8s.io/api => k8s.io/api v0.35.4\n" in text
    assert "\ngo 1.25.0\n" in text
    with pytest.raises(ReleaseError):
        go_mod_text("module x\n", "k8s.io/kubernetes", "1.35.4")


def go_program(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "go"
    path.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    path.chmod(0o755)
    return path


def test_a_new_enough_go_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = go_program(tmp_path, "1.26.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_go(pytest.fail) == ours


def test_an_old_go_is_passed_over_and_the_wheel_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_program(tmp_path / "old", "1.22.5")
    wheel = tmp_path / "venv"
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "SYSTEM_GO", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "prefix", str(wheel))
    monkeypatch.setattr(toolchain, "_install_wheel", lambda: go_program(wheel / "bin", "1.26.6"))
    said: list[str] = []
    assert find_go(said.append) == wheel / "bin" / "go"
    assert "no Go 1.26 or newer on PATH" in said[0]


def test_a_wheel_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "SYSTEM_GO", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(toolchain, "_install_wheel", lambda: None)
    with pytest.raises(GoMissingError, match=r"put Go 1\.26 or newer on PATH"):
        find_go(lambda _: None)
