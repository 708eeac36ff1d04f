"""A build of a program: the modes of what it leaves in the cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from wharf.cli.kube.build import build

_GO = """#!/bin/sh
case $1 in
version) echo go version go1.26.8 linux/amd64 ;;
*)
    while [ "$1" != -o ]; do shift; done
    echo program > "$2"
    chmod u+x "$2"
    ;;
esac
"""


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("private_umask")
def test_built_program_is_executable_by_all_users_under_a_private_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("WHARF_CACHE", str(tmp_path / "cache"))

    path = build(["kubectl"], report=lambda _: None)["kubectl"]

    assert path.read_text() == "program\n"
    assert mode(path) == mode(path.parent) == 0o755
    assert mode(path.parent / "build.json") == 0o644
    (tmp_path / "private").touch()
    assert mode(tmp_path / "private") == 0o600  # the control: the umask was private all the time
