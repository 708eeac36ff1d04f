"""Readiness of all clusters together: a gateway that could serve nothing says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from wharf.gateway.cluster.registry import Registry
from wharf.gateway.sources.base import ClusterObjects, Reason, Refused

EMPTY = "no UpstreamCluster in /clusters"
WRONG = Refused("blue", Reason.INVALID, ("spec: is wrong",))


def with_registry(empty: str, check: Callable[[Registry], None]) -> None:
    async def main() -> None:
        check(Registry(None, lambda: None, lambda _: None, empty=empty))

    asyncio.run(main())


@pytest.mark.parametrize("empty", [EMPTY, ""])
def test_unread_configuration_is_not_ready(empty: str) -> None:
    with_registry(empty, lambda one: _expect(one, None, "the configuration is not read yet"))


def test_directory_without_documents_is_not_ready() -> None:
    with_registry(EMPTY, lambda one: _expect(one, ClusterObjects(synced=True), EMPTY))


def test_home_cluster_without_objects_is_ready() -> None:
    with_registry("", lambda one: _expect(one, ClusterObjects(synced=True), ""))


@pytest.mark.parametrize("empty", [EMPTY, ""])
def test_refused_documents_only_are_not_ready(empty: str) -> None:
    reason = "no cluster is served: blue refused or unusable; the log says why"
    with_registry(empty, lambda one: _expect(one, ClusterObjects(refused=(WRONG,), synced=True), reason))


def _expect(registry: Registry, objects: ClusterObjects | None, reason: str) -> None:
    if objects is not None:
        registry.apply(objects)
    assert registry.unready() == reason
