"""An engine whose commits are timed, under the names etcd has for what a commit waits for.

One LMDB transaction is written and synced per batch, so both of etcd's histograms, of the log's sync and of the
backend's commit, are of the same time: from handing a batch over until it is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from wharf.brain.engine.base import Batch, Engine, EngineError
from wharf.common.clock import CLOCK, Clock
from wharf.common.metrics import Family, Histogram, Registry, Sample

BOUNDS: Final = tuple(0.001 * 2**power for power in range(14))  # etcd's: 1 ms to 8 s
_NAMES: Final = (
    ("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL."),
    ("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend."),
)


class MeasuredEngine:
    """`engine` itself, but for `submit`."""

    def __init__(self, engine: Engine, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._times = Histogram(BOUNDS)
        registry.collect_from(self._families)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        started = self._clock.now()

        def timed(error: EngineError | None) -> None:
            self._times.observe(self._clock.now() - started)
            done(error)

        self._engine.submit(batch, timed)

    def _families(self) -> list[Family]:
        return [Family(name, text, "histogram", (Sample((), self._times.read()),)) for name, text in _NAMES]


def measured(engine: Engine, registry: Registry, clock: Clock = CLOCK) -> Engine:
    """`engine` with its commits timed into `registry`."""
    return cast(Engine, MeasuredEngine(engine, registry, clock))
