"""Random programs get from every server exactly what the reference model says: answers, refusals, events.

The same programs run against real etcd, so the model itself is under test as much as brain is. CI runs a fixed
selection; the soak run draws new programs for as long as it is given.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from harness.store import Store
from hypothesis import HealthCheck, Phase, given, settings
from proofs.model.driver import Session
from proofs.model.programs import Step, programs
from proofs.model.versions import ETCD_3_4_23, NEWEST

CI_PROGRAMS = {
    "brain": 200,
    "etcd-3.6": 120,
    "etcd-3.4": 120,
}  # etcd brings late watchers up to date ten times a second only
_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much)
_PHASES = (Phase.generate, Phase.shrink)


@pytest.fixture(scope="module")
def session(server: Store, target: str) -> Iterator[Session]:
    """A connection that compares the server under the rules of its version."""
    session = Session(f"127.0.0.1:{server.port}", ETCD_3_4_23 if target == "etcd-3.4" else NEWEST)
    yield session
    session.close()


def test_programs_run_as_the_model_says(session: Session, target: str) -> None:
    @settings(
        max_examples=CI_PROGRAMS[target], derandomize=True, database=None, suppress_health_check=_QUIET, phases=_PHASES
    )
    @given(programs)
    def compare(program: list[Step]) -> None:
        session.run(program)

    compare()


@pytest.mark.soak
def test_new_programs_run_as_the_model_says(session: Session) -> None:
    end = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "20"))

    @settings(max_examples=500, database=None, suppress_health_check=_QUIET, phases=_PHASES)
    @given(programs)
    def compare(program: list[Step]) -> None:
        session.run(program)

    while time.monotonic() < end:
        compare()
