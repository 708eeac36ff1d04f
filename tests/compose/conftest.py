"""The container engine of the compose suite, one for all its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.containers import Engine, missing_tools, running_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if missing := missing_tools():
        pytest.skip(f"this machine cannot run containers: it lacks {', '.join(missing)}")
    with running_engine() as engine:
        yield engine
