"""Random inputs are the same in every run of CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "import conftest, hypothesis; print(hypothesis.settings().derandomize, hypothesis.settings().deadline)"


@pytest.mark.parametrize(("environment", "derandomized"), [({"CI": "true"}, "True"), ({}, "False")], ids=["CI", "else"])
def test_examples_are_derandomized_in_ci_only(environment: dict[str, str], derandomized: str) -> None:
    others = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**others, **environment},
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [derandomized, "None"]
