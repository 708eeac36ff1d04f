"""The house rules about source files are noticed when broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_sources import LONGEST, faults_of

GOOD = '"""Why."""\n\nX = 1\n'


def test_a_good_file_has_no_faults(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "a.py", GOOD) == []
    assert faults_of(tmp_path / "empty.py", "") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("X = 1\n", "docstring"),
        (GOOD + "X = 1\n" * LONGEST, "lines"),
        (GOOD + "# TO" + "DO later\n", "finish it"),
    ],
)
def test_each_rule_is_noticed(tmp_path: Path, text: str, fault: str) -> None:
    assert [fault in found for found in faults_of(tmp_path / "a.py", text)] == [True]


def test_compiled_code_needs_a_stub(tmp_path: Path) -> None:
    source = tmp_path / "_fast.pyx"
    assert faults_of(source, "# cython code\n") == ["compiled code without a .pyi beside it"]
    source.with_suffix(".pyi").touch()
    assert faults_of(source, "# cython code\n") == []
