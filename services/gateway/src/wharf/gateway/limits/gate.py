"""One schema at work: its numbers, and a bucket for each value of its key. Pure.

Buckets are made on demand and kept by use, `keys_max` of them; the least recently used goes first. One that goes while
requests still run or wait in it is pinned: found again if its key comes back, dropped when it is empty. So memory is
bounded by `keys_max` plus the requests under way.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from wharf.gateway.api.shapes import Key, Schema, Scope, WatchClass
from wharf.gateway.limits.bucket import Bucket, Sharing, burst_of
from wharf.gateway.limits.outcome import Cause, Who

QUEUE_MAX: Final = 1024  # requests that wait in one bucket
QUEUE_PER_SLOT: Final = 4


@dataclass(frozen=True, slots=True)
class SchemaCounts:
    """A schema, as status and metrics tell it."""

    name: str
    admitted: int
    refused: tuple[tuple[Cause, int], ...]  # those that happened
    in_flight: int
    queued: int
    watches: int
    keys: int  # buckets


class Gate:
    """See the module. `pump` is called for a bucket whose queue may move."""

    __slots__ = (
        "_pinned",
        "_sharing",
        "admitted",
        "buckets",
        "burst",
        "counted",
        "pace",
        "pump",
        "queue_max",
        "rate",
        "rated",
        "refused",
        "schema",
        "separate",
        "single",
        "slots",
        "start_only",
        "wait_seconds",
        "watch_slots",
    )

    def __init__(
        self,
        schema: Schema,
        now: float,
        pump: Callable[[Bucket, float], None],
        sharing: Sharing | None = None,
    ) -> None:
        self.pump = pump
        self._sharing = sharing if schema.scope is Scope.GLOBAL else None
        self.buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._pinned: dict[str, Bucket] = {}
        self.admitted = 0
        self.refused: dict[Cause, int] = {}
        self._configure(schema)
        if self._sharing is not None:
            self._sharing.attach(self)
        self.single = self._make("", now) if schema.key is Key.NONE else None  # the only bucket of a schema without key

    def close(self) -> None:
        """Nobody comes any more."""
        if self._sharing is not None:
            self._sharing.detach(self)

    def find(self, who: Who, now: float) -> Bucket:
        """The bucket for who asks, made if need be."""
        if self.single is not None:
            return self.single
        key = self._key_of(who)
        bucket = self.buckets.get(key)
        if bucket is None:
            return self._make(key, now)
        self.buckets.move_to_end(key)
        return bucket

    def every(self) -> Iterator[Bucket]:
        """All buckets, the pinned ones too."""
        yield from tuple(self.buckets.values())
        yield from tuple(self._pinned.values())

    def unpin(self, bucket: Bucket) -> None:
        """A pinned bucket is empty: nothing is lost without it."""
        bucket.pinned = False
        self._pinned.pop(bucket.key, None)

    def fits(self, schema: Schema) -> bool:
        """Whether `schema` only changes numbers."""
        return _kind(schema) == _kind(self.schema)

    def resize(self, schema: Schema, now: float) -> None:
        """Take over other numbers; every bucket keeps what it has, up to the new burst."""
        for bucket in self.every():
            bucket.refill(now)
        self._configure(schema)
        self._trim()
        for bucket in self.every():
            bucket.tokens = min(bucket.tokens, self.burst)
            bucket.in_flight.limit, bucket.watches.limit = self.slots, self.watch_slots
            if bucket.share is not None:
                bucket.share.resized()

    def refuse(self, cause: Cause) -> None:
        self.refused[cause] = self.refused.get(cause, 0) + 1

    def counts(self) -> SchemaCounts:
        every = tuple(self.every())
        return SchemaCounts(
            self.schema.name,
            self.admitted,
            tuple(self.refused.items()),
            sum(bucket.in_flight.used for bucket in every),
            sum(len(bucket.queue) for bucket in every),
            sum(bucket.watches.used for bucket in every),
            len(every),
        )

    def _configure(self, schema: Schema) -> None:
        self.schema = schema
        self.rated, self.counted = schema.qps is not None, schema.max_in_flight is not None
        self.rate = self.pace = schema.qps or 0.0  # pace: what the schema promises, whoever refills
        self.burst = burst_of(schema)
        if self._sharing is not None:
            self.rate, self.burst = self._sharing.supply(schema)
        self.slots = math.inf if schema.max_in_flight is None else float(schema.max_in_flight)
        self.separate = schema.watch_class is WatchClass.SEPARATE
        self.start_only = schema.watch_class is WatchClass.START
        self.watch_slots = float(schema.watches) if self.separate and schema.watches else math.inf
        self.wait_seconds = schema.wait_seconds
        self.queue_max = self._room()

    def _room(self) -> int:
        """Requests that may wait in a bucket: no more than can have their turn in time."""
        if self.wait_seconds <= 0:
            return 0
        by_rate = math.ceil(self.pace * self.wait_seconds) if self.rated else QUEUE_MAX
        by_slots = self.slots * QUEUE_PER_SLOT if self.counted else QUEUE_MAX
        return int(min(by_rate, by_slots, QUEUE_MAX))

    def _key_of(self, who: Who) -> str:
        key = self.schema.key
        if key is Key.USER:
            return who.user
        return who.namespace if key is Key.NAMESPACE else who.service_account

    def _make(self, key: str, now: float) -> Bucket:
        bucket = self._pinned.pop(key, None)
        if bucket is None:
            bucket = Bucket(self, key, now)
            if self._sharing is not None:
                bucket.share = self._sharing.join(bucket, now)
        bucket.pinned = False
        self.buckets[key] = bucket
        self._trim()
        return bucket

    def _trim(self) -> None:
        while len(self.buckets) > max(1, self.schema.keys_max):
            key, bucket = self.buckets.popitem(last=False)
            if bucket.busy:
                bucket.pinned = True
                self._pinned[key] = bucket


def _kind(schema: Schema) -> tuple[object, ...]:
    return schema.key, schema.scope, schema.qps is None, schema.max_in_flight is None
