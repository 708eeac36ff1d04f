"""The recipe table agrees with the Go modules in the tree, and versions are read as they are printed."""

from __future__ import annotations

import pytest
from wharf.cli.kube.build import source_tree
from wharf.cli.kube.recipes import RECIPES, NotPinnedError, Recipe, UnknownToolError, pinned_version, recipe, version_in
from wharf.cli.kube.toolchain import environment, go_version
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
