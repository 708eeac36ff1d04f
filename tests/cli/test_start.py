"""The steps of `wharf up`: under which umask each runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from wharf.cli.embedded import start as module
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.ports import Ports
from wharf.cli.embedded.start import Start, start
from wharf.cli.embedded.system import BINARIES, Binary


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
    start(Start(Layout(tmp_path / "system"), free, None, None, False, ""))
    assert seen == {"binaries": 0o022, "certificates": 0o077, "parts": 0o077}
