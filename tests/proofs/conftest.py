"""Fixtures of the proofs: one server of each kind for a whole run, its log shown when a test fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from harness.store import Store
from proofs import servers


class Starter(Protocol):
    """Starts servers that end with the test: what kind, and a name for its folder."""

    def __call__(self, target: str, name: str, *, tls: bool = False) -> Store: ...


_running: dict[str, Store] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what every running server last said."""
    report = yield
    if report.failed:
        report.sections += [("server log", store.logs()) for store in _running.values()]
    return report


@pytest.fixture(scope="session", params=servers.TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    """Every kind of server in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One running server of the kind, shared: tests leave it without keys or leases."""
    store = servers.start(target, tmp_path_factory.mktemp(target))
    _running[target] = store
    yield store
    del _running[target]
    store.stop()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Starter]:
    """Servers of the test's own, each in a folder named by the test."""
    ours: dict[str, Store] = {}

    def start(target: str, name: str, *, tls: bool = False) -> Store:
        ours[name] = _running[name] = servers.start(target, tmp_path / name, tls=tls)
        return ours[name]

    yield start
    for name, store in ours.items():
        del _running[name]
        store.stop()
