"""Fuzzing for a bounded time, from the seeds in corpus/: FUZZ_SECONDS per target (10 when unset).

An input that broke something is kept by name in the failure's message; put it into corpus/ with the fix.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.targets import CLOSE, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TESTS = Path(__file__).parents[1]
CORPUS = Path(__file__).parent / "corpus"
MESSAGE_MAX = 4096
START_SECONDS = 120  # a busy machine imports and instruments slowly


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


@pytest.fixture(params=sorted(TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    name = str(request.param)
    yield name
    CLOSE[name]()


def test_every_seed_passes(target: str) -> None:
    assert seeds(target)
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutated_seeds(name: str) -> None:
    """Bytes of a seed replaced, dropped, doubled: no coverage to guide it, but it runs on every Python."""
    edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4), st.binary(max_size=8)), max_size=8)

    @given(st.sampled_from(seeds(name)), edits)
    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    def mutate(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        data = seed
        for at, dropped, put in changes:
            data = data[:at] + put + data[at + dropped :]
        TARGETS[name](data)

    try:
        mutate()
    finally:
        CLOSE[name]()


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has no wheel for this Python; test_mutated_seeds stands in for it",
)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_atheris(name: str, tmp_path: Path) -> None:
    seconds = int(os.environ.get("FUZZ_SECONDS", "10"))
    found = tmp_path / "found"
    found.mkdir()
    words = [f"-max_total_time={seconds}", f"-max_len={MESSAGE_MAX}", "-rss_limit_mb=1024", "-timeout=60"]
    if os.environ.get("CI"):
        words.append("-seed=1")  # the same inputs in every run: a failure can be repeated, and none comes by chance
    words += [
        "-keep_seed=1",
        "-reduce_inputs=0",
    ]  # compiled code shows no coverage: seeds are kept though they add none
    words += [f"-artifact_prefix={tmp_path}/broken-", str(found), str(CORPUS / name)]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.run", name, *words],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + START_SECONDS,
        check=False,
    )
    broken = {path.name: path.read_bytes().hex() for path in tmp_path.glob("broken-*")}
    assert (done.returncode, broken) == (0, {}), done.stderr[-4000:]
    assert "DONE" in done.stderr, "it ended before its time"
