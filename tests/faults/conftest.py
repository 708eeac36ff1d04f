"""One brain for all the abuse of a module: whoever harms it is found out by the canary, by its memory or by its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.canary import Canary
from faults.kit import address, brain, memory
from harness.store import Store

MEMORY_MAX = 96 << 20  # what any abuse may make the process hold beyond what it held before


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A serving brain that must end in order after everything done to it."""
    with brain(tmp_path_factory.mktemp("victim")) as store:
        yield store
        assert store.process.stop(timeout=60) == 0
        assert "Traceback" not in store.process.output()


@pytest.fixture
def canary(victim: Store) -> Iterator[Canary]:
    """A client of its own that writes and reads all the while; the test fails when it was not served rightly."""
    before = memory(victim.process.pid)
    bird = Canary(address(victim), victim.process.pid)
    bird.start()
    try:
        bird.sing()
        yield bird
        bird.sing()
    finally:
        bird.end()
    assert bird.failure is None, bird.failure
    assert bird.peak - before < MEMORY_MAX, f"grew from {before} to {bird.peak} bytes"
