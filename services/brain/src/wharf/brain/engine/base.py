"""The contract between brain's store and what keeps its bytes.

An engine is four ordered tables and one promise: a `Batch` lands whole, in order, durably, or not at all, and only if
the engine still stands where the batch expects (same fence, same revision). Everything else (revisions, versions,
history) is the store's.

Reads go through a `Snapshot`: one committed state, unmoved by later commits. Commits are asynchronous; `done` is
called on the loop thread, in submission order. An engine never guesses: an outcome it cannot know is `CommitUnknown`,
and the store asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from wharf.brain.engine.delta import Delta, Position

META_FORMAT = b"format"  # FORMAT, written when the store is made
META_REVISION = b"revision"  # 8 bytes, big endian; kept by the engine from `Batch.revision`
META_EPOCH = b"epoch"  # 8 bytes, big endian; kept by the engine, raised by `promote`
META_LEASE = (
    b"lease_ms"  # 8 bytes, big endian; kept by shared engines: how long the epoch's leader may believe it leads
)
FORMAT = b"wharf-brain 1"
FIRST_REVISION = 1  # of a store nothing was ever written to
EPOCH_TAG_BITS = 24


def next_epoch(epoch: int) -> int:
    """An epoch of a shared engine after `epoch`: a number one higher, and a random tag in the low bits. The tag tells
    apart two promotions of one number, the first of which was lost with a primary's newest commits.
    """
    return (epoch_number(epoch) + 1) << EPOCH_TAG_BITS | secrets.randbits(EPOCH_TAG_BITS)


def epoch_number(epoch: int) -> int:
    """How many promotions led to `epoch`. Epochs of local engines and of older releases have no tag."""
    return epoch >> EPOCH_TAG_BITS or epoch


class Table(IntEnum):
    META = 0  # few small records: revision, compaction, fence, cluster id, leases
    LOG = 1  # revision (8 bytes, big endian) → the transaction's events
    NOW = 2  # storage key → live mvccpb.KeyValue, serialized
    HISTORY = 3  # storage key + revision that ended it → the mvccpb.KeyValue it ended


Write = tuple[int, bytes, bytes | None]
"""(table, key, value); value None deletes, and deleting what is absent is no error."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One atomic step from `expected_revision` to `revision` (equal for batches that only touch META or compact)."""

    epoch: int  # fence under which the writer believes to lead
    expected_revision: int
    revision: int
    writes: Sequence[Write]


class EngineError(Exception):
    """Root of what an engine may raise or report."""


class EngineFull(EngineError):
    """No room left (disk or map); nothing was written, the store stays readable."""


class Fenced(EngineError):
    """The engine holds another epoch or revision than the batch expects; nothing was written."""


class CommitUnknown(EngineError):
    """The engine did not say whether the batch landed. Read the revision back before acknowledging anything."""


class OutcomeLost(EngineError):
    """Another writer has taken over, and the engine no longer holds what would show whether the batch landed."""


class EngineFailed(EngineError):
    """An I/O error: the engine commits nothing more before it is opened again. Reported for a batch by `submit`: the
    batch did not commit. By `resolve`: whether it committed shows only when the engine is opened again.
    """


class EngineCorrupt(EngineError):
    """The stored bytes cannot be trusted; the message says what to do."""


class Diverged(EngineError):
    """The replica holds what the authority does not: the authority has lost acknowledged state, or is another one."""


class EngineLocked(EngineError):
    """Another process has the store open."""


Resolution = bool | EngineError
"""What became of a batch. True: it landed, whoever writes now. False: it did not land, and may be submitted again.
`Fenced`: it did not land and never will, because another writer has taken over. `OutcomeLost`: this will never be
known. `EngineFailed`: this process cannot know. Any other error: not known yet, ask again."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """The fence as this writer holds it."""

    epoch: int
    previous_lease_ms: int = 0  # how long the writer before may go on believing after its last renewal


class Snapshot(Protocol):
    """One committed state. Close it soon: an open snapshot keeps freed pages from being reused."""

    @property
    def revision(self) -> int:
        """META revision of this state."""

    def get(self, table: int, key: bytes) -> bytes | None: ...

    def scan(
        self, table: int, start: bytes, end: bytes | None, limit: int = 0, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end in key order (descending when `reverse`); end None: to the table's end;
        limit 0: all.
        """

    def values(
        self, table: int, start: bytes, end: bytes | None, limit: int, max_bytes: int, tag: int
    ) -> tuple[bytes, int, bytes | None]:
        """Values of a range, each framed as protobuf field: `tag` byte, varint length, value; concatenated.

        Stops after `limit` values (0: none) or once `max_bytes` is reached (at least one value is taken).
        Returns (framed, how many, first key not taken or None when the range is exhausted).
        """

    def measure(self, table: int, start: bytes, end: bytes | None, limit: int) -> tuple[int, int]:
        """(bytes `values` would frame without `max_bytes`, how many), without copying values."""

    def close(self) -> None: ...


class Engine(Protocol):
    """What a store is built on. Opened by `open_engine(url)`; methods are for the loop thread unless they say
    otherwise.

    The engine itself keeps META `format`, `revision` and `epoch`; batches do not write them.
    """

    def snapshot(self) -> Snapshot: ...

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        """Queue a batch; returns at once. `done(None)` once it is durable, else `done(error)`; batches land in
        order.
        """

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        """What became of a submitted batch that was reported as `CommitUnknown`; `done` may be called at once.

        After True the local state shows the batch, after False it may be submitted again.
        """

    async def promote(self, lease_ms: int = 0) -> Promotion:
        """Raise the fence: batches of any earlier epoch are refused from now on, and the snapshots that are taken
        afterwards show everything that landed before. `lease_ms` is kept for whoever raises it next.
        """

    def size(self) -> int:
        """Bytes the engine occupies on disk."""

    def size_in_use(self) -> int:
        """Bytes of `size` that hold data; the rest is reused by later writes."""

    def relax(self) -> None:
        """Let go of memory that can be read again; cheap. For after reading much."""

    def defragment(self) -> None:
        """Give free pages back to the file system where the engine can; blocking, callable from a worker thread.

        Batches submitted meanwhile wait. Snapshots taken before stay valid.
        """

    def backup(self, path: str) -> None:
        """Write a consistent copy to `path` while writes go on; blocking, callable from a worker thread."""

    def close(self) -> None: ...


def resolved(engine: Engine, batch: Batch) -> Resolution:
    """`Engine.resolve` for engines whose snapshots show what is committed. Their log does not name the writer."""
    try:
        snapshot = engine.snapshot()
        try:
            revision, epoch = snapshot.revision, snapshot.get(Table.META, META_EPOCH)
        finally:
            snapshot.close()
    except EngineError as error:
        return error
    if epoch != batch.epoch.to_bytes(8, "big") or revision not in (batch.expected_revision, batch.revision):
        if revision < batch.revision:
            return Fenced("another writer has taken over, and the batch did not land")
        return OutcomeLost("another writer has taken over, and the batch may have landed before")
    return (
        revision == batch.revision != batch.expected_revision
    )  # a batch that moves nothing lands twice as well as once


class LocalEngine(Engine, Protocol):
    """An engine of one machine: what is committed is what its snapshots show."""

    def commit(self, batch: Batch) -> None:
        """Land a batch and wait for it; raises what `submit` would report. For tools and start-up, while nothing
        is submitted.
        """


class SharedEngine(Engine, Protocol):
    """An engine of several nodes: one authority far away, and on each node a replica that its snapshots show.

    `submit`, `resolve` and `promote` are the leader's; a follower's replica moves by `apply` and `catch_up`. The two
    never overlap: who leads does not follow. `open` before anything else.
    """

    on_landed: Callable[[Delta], None] | None  # told of every batch of ours the moment the authority has it

    async def open(self) -> None:
        """Connect, make or check the schema, and load the replica; EngineError says what is wrong."""

    async def other_clients(self) -> int:
        """Connections of other nodes and tools to the same authority, as far as they can be seen. EngineError."""

    def position(self) -> Position:
        """Where the replica stands."""

    def apply(self, delta: Delta, done: Callable[[EngineError | None], None]) -> bool:
        """Move the replica by one delta; False, and nothing is done, unless it follows on `position`.

        `done` comes once snapshots show it; deltas may be applied while earlier ones are under way.
        """

    async def catch_up(self) -> Position:
        """Read from the authority what the replica lacks and apply it; afterwards the replica shows at least everything
        that was committed when this was called. EngineError when the authority does not answer.

        Diverged (an `EngineError`): the replica holds what the authority has lost; it must be loaded anew (`reload`).
        """

    async def reload(self) -> None:
        """Throw the replica away and load it whole. Open snapshots stay as they are."""

    async def aclose(self) -> None:
        """Let go of connections, then `close`."""
