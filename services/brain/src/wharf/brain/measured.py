"""An engine whose commits and defragmentations are timed, under etcd's names.

One LMDB transaction is written and synced per batch, so both of etcd's histograms, of the log's sync and of the
backend's commit, are of the same time: from handing a batch over until it is durable. A commit that takes longer than
`SLOW` counts as etcd's slow apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from wharf.brain.engine.base import Batch, Engine, EngineError
from wharf.common.clock import CLOCK, Clock
from wharf.common.metrics import Family, Histogram, Registry, Sample

SLOW: Final = 0.1  # seconds, etcd's bound for an apply
DEFRAGMENTATION_BOUNDS: Final = tuple(0.1 * 2**power for power in range(13))  # etcd's: 100 ms to 7 minutes
BOUNDS: Final = tuple(0.001 * 2**power for power in range(14))  # etcd's: 1 ms to 8 s
_NAMES: Final = (
    ("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL."),
    ("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend."),
)


class MeasuredEngine:
    """`engine` itself, but for `submit` and `defragment`."""

    def __init__(self, engine: Engine, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._times = Histogram(BOUNDS)
        self._slow = 0
        self._defragmentations = Histogram(DEFRAGMENTATION_BOUNDS)
        self._defragmenting = False
        registry.collect_from(self._families)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        started = self._clock.now()

        def timed(error: EngineError | None) -> None:
            took = self._clock.now() - started
            self._times.observe(took)
            self._slow += took > SLOW
            done(error)

        self._engine.submit(batch, timed)

    def defragment(self) -> None:
        """As the engine's own. For a worker thread, one call at a time."""
        started = self._clock.now()
        self._defragmenting = True
        try:
            self._engine.defragment()
        finally:
            self._defragmenting = False
        self._defragmentations.observe(self._clock.now() - started)

    def _families(self) -> list[Family]:
        commits = self._times.read()
        return [
            *(Family(name, text, "histogram", (Sample((), commits),)) for name, text in _NAMES),
            Family(
                "etcd_disk_backend_defrag_duration_seconds",
                "The latency distribution of backend defragmentation.",
                "histogram",
                (Sample((), self._defragmentations.read()),),
            ),
            Family(
                "etcd_disk_defrag_inflight",
                "Whether or not defrag is active on the member. 1 means active, 0 means not.",
                "gauge",
                (Sample((), self._defragmenting),),
            ),
            Family(
                "etcd_server_slow_apply_total",
                "The total number of slow apply requests (likely overloaded from slow disk).",
                "counter",
                (Sample((), self._slow),),
            ),
        ]


def measured(engine: Engine, registry: Registry, clock: Clock = CLOCK) -> Engine:
    """`engine` with its commits timed into `registry`."""
    return cast(Engine, MeasuredEngine(engine, registry, clock))
