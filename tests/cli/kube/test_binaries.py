"""The order of sources, what is passed over and why, and that `locate` asks no further than it must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wharf.cli.kube import binaries, build
from wharf.cli.kube.binaries import Found, Origin, choose, locate
from wharf.cli.kube.recipes import recipe


def found(origin: Origin, version: str | None, path: str = "/x/kubectl") -> Found:
    return Found(origin, Path(path), version)


def test_given_folder_wins_whatever_version_it_has() -> None:
    choice = choose("kubectl", "1.36.3", [found(Origin.GIVEN, "1.29.0"), found(Origin.PATH, "1.36.3")])
    assert choice.found == found(Origin.GIVEN, "1.29.0")


def test_path_of_the_wanted_minor_comes_before_the_cache() -> None:
    choice = choose("kubectl", "1.36.3", [found(Origin.PATH, "1.36.1"), found(Origin.CACHE, "1.36.3")])
    assert choice.found == found(Origin.PATH, "1.36.1")


@pytest.mark.parametrize("version", ["1.32.4", "2.36.3", None])
def test_path_of_another_minor_is_passed_over_with_a_reason(version: str | None) -> None:
    choice = choose(
        "kubectl", "1.36.3", [found(Origin.PATH, version, "/usr/bin/kubectl"), found(Origin.CACHE, "1.36.3")]
    )
    assert choice.found == found(Origin.CACHE, "1.36.3")
    assert "/usr/bin/kubectl is" in choice.describe()
    assert "not 1.36.x" in choice.describe()


def test_nothing_fits_means_build() -> None:
    choice = choose("kubectl", "1.36.3", [found(Origin.PATH, "1.32.4")])
    assert choice.found is None
    assert choice.describe().startswith("kubectl 1.36.3: built from source")


def test_without_a_wanted_version_the_first_is_taken() -> None:
    choice = choose("kubectl", None, [found(Origin.PATH, "1.32.4")])
    assert choice.found == found(Origin.PATH, "1.32.4")


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_locate_takes_the_folder_and_says_so(tmp_path: Path) -> None:
    ours = program(tmp_path, "kubectl", "Client Version: v1.30.2")
    lines: list[str] = []
    assert locate("kubectl", folder=tmp_path, report=lines.append) == ours
    assert lines == [f"kubectl 1.30.2: given folder, {ours}"]


def test_locate_says_that_the_named_folder_lacks_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given"
    given.mkdir()
    on_path = program(tmp_path / "bin", "kubectl", "Client Version: v1.36.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    lines: list[str] = []
    assert locate("kubectl", folder=given, version="1.36.3", report=lines.append) == on_path
    assert lines == [f"kubectl 1.36.0: PATH, {on_path}; {given} holds no kubectl"]


def test_locate_finds_path_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(tmp_path / "bin", "kubectl", "Client Version: v1.36.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("WHARF_CACHE", str(tmp_path / "cache"))
    assert locate("kubectl", version="1.36.3", report=lambda _: None) == on_path

    program(tmp_path / "bin", "kubectl", "Client Version: v1.20.0")
    in_cache = program(tmp_path / "cache" / "bin" / "kubectl-1.36.3", "kubectl", "")
    stamp = build._stamp(recipe("kubectl"), "1.36.3")
    (in_cache.parent / "build.json").write_text(json.dumps(stamp))
    assert locate("kubectl", version="1.36.3", report=lambda _: None) == in_cache


def test_cache_with_another_go_sum_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHARF_CACHE", str(tmp_path))
    tool = recipe("kubectl")
    in_cache = program(tmp_path / "bin" / "kubectl-1.36.3", "kubectl", "")
    (in_cache.parent / "build.json").write_text(json.dumps({"go.sum": "older", "ldflags": tool.ldflags("1.36.3")}))
    assert build.cached(tool, "1.36.3") is None


def test_without_a_source_tree_the_cannot_build_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHARF_SOURCE", str(tmp_path))
    monkeypatch.setenv("WHARF_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binaries.wanted_version(recipe("kubectl"), None) is None
    with pytest.raises(build.BuildError, match=r"WHARF_SOURCE.*name their folder"):
        locate("kubectl", report=lambda _: None)


def test_a_program_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    broken = tmp_path / "kubectl"
    broken.write_text("#!/nowhere\n")
    broken.chmod(0o755)
    assert binaries.tell_version(recipe("kubectl"), broken) is None
