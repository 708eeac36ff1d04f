"""What a node shows: the newest state it may speak of, who listens to it, and what refuses requests.

Two things move it. A leader publishes its own batches when they are durable (`Leading.settle`). A follower's engine
moves by itself, and `advance` shows that state as soon as it may: what the engine has may be ahead of what the leader
has published, and a reader who had seen it could then find less at the leader. So a newer state is held back until
`confirmed` has reached it.

Invariant: `revision` is durable and only grows; snapshot, index and listeners are at it. What a node loads when it
starts may be ahead of its leader too: nobody may be shown anything until it is `certain`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from wharf.brain.engine.base import Engine, Snapshot, Table
from wharf.brain.errors import BrainError
from wharf.brain.store._codec import Header, event_kv, frame, kv_numbers, parse_kube_range
from wharf.brain.store.alarms import Alarms
from wharf.brain.store.keys import META_COMPACT, encode_varint, parse_u64, prefix_end
from wharf.brain.store.read import LogGap, Reader
from wharf.brain.store.shapes import RangeAnswer, RangeOp

if TYPE_CHECKING:
    from wharf.brain.store._codec import EventTuple

log = logging.getLogger(__name__)

Listener = Callable[[Sequence["EventTuple"], int], None]


class Present:
    """See the module. For the loop thread."""

    def __init__(self, engine: Engine, quota_bytes: int) -> None:
        self.engine = engine
        self.revision = 0
        self.compact_revision = -1  # -1: nothing was ever compacted
        self.confirmed = 0  # of a follower: the newest revision a leader is known to have published
        self.header = Header(0, 0, 0)
        self.alarms = Alarms(engine, quota_bytes)
        self.refusal: BrainError | None = None  # the error for every request
        self.write_refusal: BrainError | None = None  # the error for writes: `refusal`, else that of the CORRUPT alarm
        self.reader: Reader
        self.leased: dict[bytes, int] = {}  # key → lease of those that have one; a leader's table knows better
        self._listeners: list[Listener] = []
        self._moved: list[Callable[[], None]] = []
        self._settled: list[Callable[[], None]] = []
        self._jumped: list[Callable[[], None]] = []
        self._meta: list[tuple[bytes, bytes | None, Callable[[bytes | None], None]]] = []

    @property
    def certain(self) -> bool:
        """Whether a leader is known to have published what is shown: not after the first `load`, until one is heard."""
        return self.revision <= self.confirmed

    def load(self, snapshot: Snapshot | None = None) -> None:
        """Read what lives in memory from `snapshot`, else from the engine's newest; EngineError when that cannot be."""
        self.leased = {}
        self.reader = Reader(self.engine, self._attach, snapshot=snapshot)
        self.revision = self.reader.revision
        self._read_meta(self.reader.snapshot)

    def advance(self, newest: Snapshot | None = None) -> bool:
        """Show `newest`, else the engine's newest state, if it may be shown; whether everything confirmed is shown
        now."""
        held = self.reader.snapshot
        newest = self.engine.snapshot() if newest is None else newest
        if newest.revision > max(self.confirmed, self.revision):
            newest.close()
            return self.revision >= self.confirmed
        try:
            events = self.reader.follow(newest)
        except LogGap as gap:
            log.warning(
                "this node has fallen behind the history that is kept, it starts over from the present: %s", gap
            )
            self._jump(newest)
            return True
        held.close()
        self.revision = newest.revision
        for _, kind, key, framed, _ in events:
            self._note_lease(kind, key, framed)
        self._read_meta(newest)
        self.publish(events, self.revision)
        return self.revision >= self.confirmed

    def publish(self, events: Sequence[EventTuple], revision: int) -> None:
        """Tell everybody that `revision` is shown, and what happened on the way."""
        if events:
            for listener in self._listeners:
                listener(events, revision)
        for moved in self._moved:
            moved()

    def on_events(self, listener: Listener) -> None:
        """Call after every publish with (revision, kind, key, framed event, prev KeyValue) tuples and the new
        revision."""
        self._listeners.append(listener)

    def settled(self) -> None:
        """What this node has made durable is what its snapshot shows; nobody has been told yet."""
        for settled in self._settled:
            settled()

    def on_settled(self, listener: Callable[[], None]) -> None:
        """Call when a batch of ours is durable and before anybody learns of it, events or not."""
        self._settled.append(listener)

    def on_moved(self, listener: Callable[[], None]) -> None:
        """Call whenever something newer is shown, events or not."""
        self._moved.append(listener)

    def on_jumped(self, listener: Callable[[], None]) -> None:
        """Call when `revision` moved without its events: whoever needs them reads the log, or learns of compaction."""
        self._jumped.append(listener)

    def on_meta(self, key: bytes, listener: Callable[[bytes | None], None]) -> None:
        """Call with the META record `key` now and whenever a shown state holds another."""
        stored = self.meta(key)
        self._meta.append((key, stored, listener))
        listener(stored)

    def meta(self, key: bytes) -> bytes | None:
        return self.reader.snapshot.get(Table.META, key)

    def meta_under(self, prefix: bytes) -> dict[bytes, bytes]:
        """The META records whose keys begin with `prefix`."""
        return dict(self.reader.snapshot.scan(Table.META, prefix, prefix_end(prefix)))

    def refresh_meta(self) -> None:
        """A batch of ours has changed META."""
        self._tell_meta(self.reader.snapshot)

    def refuse(self, error: BrainError | None) -> None:
        """Answer every request with `error` from now on; None ends that."""
        self.refusal = error
        self.apply_alarms()

    def apply_alarms(self) -> None:
        """Refuse writes while the CORRUPT alarm is raised. Reads go on, as in etcd."""
        self.write_refusal = self.refusal or self.alarms.write_refusal()

    def range(self, op: RangeOp) -> RangeAnswer:
        """A range of what is shown. Raises BrainError."""
        if self.refusal is not None:
            raise self.refusal
        return self.reader.range(op, self.revision, self.compact_revision)

    def range_fast(self, message: bytes) -> bytes | tuple[int, Iterator[bytes]] | None:
        """RangeResponse for RangeRequest bytes of kube-apiserver's shapes, (length, pieces) of a large one; None: not
        one.

        Raises BrainError.
        """
        shape = parse_kube_range(message)
        if shape is None or self.refusal is not None:
            return None
        key, range_end, limit, revision, keys_only, count_only = shape
        if not (range_end or revision or keys_only or count_only):
            kv = self.reader.get(key)
            head = self.header.encode(self.revision)
            return head if kv is None else b"%b%b\x20\x01" % (head, frame(0x12, kv))
        answer = self.reader.range(
            RangeOp(key, range_end, limit, revision, keys_only=keys_only, count_only=count_only),
            self.revision,
            self.compact_revision,
        )
        head = self.header.encode(answer.revision)
        tail = _range_tail(answer)
        if answer.parts is None:
            return b"%b%b%b" % (head, answer.framed, tail)
        return len(head) + answer.framed_length + len(tail), _pieces(head, answer.parts, tail)

    def _attach(self, key: bytes, lease_id: int) -> None:
        self.leased[key] = lease_id

    def _note_lease(self, kind: int, key: bytes, framed: bytes) -> None:
        lease_id = 0 if kind else kv_numbers(event_kv(framed))[3]
        if lease_id:
            self.leased[key] = lease_id
        elif self.leased:
            self.leased.pop(key, None)

    def _jump(self, newest: Snapshot) -> None:
        """Everything anew from `newest`: there is no log from here to there."""
        old = self.reader
        self.load(newest)
        old.close()
        for listener in self._jumped:
            listener()
        self.publish((), self.revision)

    def _read_meta(self, snapshot: Snapshot) -> None:
        self.compact_revision = max(self.compact_revision, parse_u64(snapshot.get(Table.META, META_COMPACT), -1))
        self.alarms.load(snapshot)
        self.apply_alarms()
        self._tell_meta(snapshot)

    def _tell_meta(self, snapshot: Snapshot) -> None:
        for at, (key, known, listener) in enumerate(self._meta):
            stored = snapshot.get(Table.META, key)
            if stored != known:
                self._meta[at] = (key, stored, listener)
                listener(stored)


def _range_tail(answer: RangeAnswer) -> bytes:
    """The fields of RangeResponse after its KeyValues: more, count."""
    more = b"\x18\x01" if answer.more else b""
    return more + b"\x20" + encode_varint(answer.count) if answer.count else more


def _pieces(head: bytes, parts: Iterator[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    yield from parts
    yield tail
