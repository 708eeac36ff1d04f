"""Everything brain answers about what is stored, now or at an earlier revision.

Owns the loop's snapshot, the index of live keys and the churn that makes counts exact. Reads what is durable and
published, nothing pending. Invariant: snapshot, index and `revision` always speak of the same state; `advance` moves
all three at once.

A list costs O(page + log n): the latest one is a scan of live keys, an older one also passes what changed since, its
count comes from the index and the churn. What is larger than `ReadLimits.whole` is read in pieces while it is sent,
at its revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from wharf.brain.engine._lmdb import ReadTxn
from wharf.brain.engine.base import Engine, EngineCorrupt, Snapshot, Table
from wharf.brain.errors import Compacted, FutureRevision
from wharf.brain.store._codec import split_log
from wharf.brain.store._index import Index
from wharf.brain.store.churn import Change, Churn
from wharf.brain.store.history import changes_since, rows_at
from wharf.brain.store.keys import (
    META_COMPACT,
    encode_kv,
    frame,
    hkey,
    is_long,
    log_key,
    parse_kv,
    parse_u64,
    range_bounds,
    scan_is_exact,
    skey,
)
from wharf.brain.store.order import SORT_KEYS, is_custom, passes, reads_all
from wharf.brain.store.pages import KVS_TAG, Page, Span, after, live_keys, log_changes, page_of, read_page
from wharf.brain.store.shapes import RangeAnswer, RangeOp, SortOrder, SortTarget

if TYPE_CHECKING:
    from wharf.brain.store._codec import EventTuple

UNBOUNDED = (1 << 63) - 1
COUNTS = 256  # ranges of the past whose count is remembered, so that the pages of a list need one walk
Attach = Callable[[bytes, int], None]
Events = list["EventTuple"]
Counted = tuple[int, bytes, bytes | None]
"""(revision, start, end) of a range."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What one answer may hold in memory, and what counting may."""

    whole: int = 8 << 20  # framed bytes; a larger list is read in pieces while it is sent
    piece: int = 1 << 20  # framed bytes of such a piece, about
    changes: int = 20_000  # births and deaths kept, to count at earlier revisions without walking


class LogGap(Exception):
    """The log no longer reaches back to what is shown."""


def _attach_nothing(_: bytes, __: int) -> None: ...


class Reader:
    """The read side of a store; for the loop thread."""

    def __init__(
        self,
        engine: Engine,
        attach: Attach = _attach_nothing,
        limits: ReadLimits | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Reads all live keys of `snapshot`, else of the engine's newest state, into the index; `attach(key, lease)` is
        called for those attached to a lease.
        """
        self._engine = engine
        self._limits = limits or ReadLimits()
        self.snapshot = engine.snapshot() if snapshot is None else snapshot
        self.revision = self.snapshot.revision
        self.index = Index()
        self._long = Index()
        try:
            self._load(attach)
        except ValueError as error:
            raise EngineCorrupt(
                f"{error}: restore a snapshot into a new directory with `wharf brain restore`"
            ) from error
        floor = max(self.compact_revision(), self.revision - 2 * self._limits.changes, 1)
        self._churn = Churn(floor, self._limits.changes)
        self._counts: OrderedDict[Counted, int] = OrderedDict()  # of ranges too long ago for the churn
        self._churn.record(self._changes_after(floor))
        engine.relax()

    def close(self) -> None:
        self.snapshot.close()

    @property
    def live_keys(self) -> int:
        return len(self.index)

    def advance(self, changes: Sequence[Change]) -> None:
        """Show the engine's newest state, which differs from the one shown by these births and deaths of keys."""
        self.refresh()
        self._take_changes(changes)

    def _take_changes(self, changes: Sequence[Change]) -> None:
        for _, key, born in changes:
            held = self.index.add(key) if born else self.index.discard(key)
            if held and is_long(key):
                self._long.add(key) if born else self._long.discard(key)
        if changes:
            self._churn.record(changes)

    def follow(self, newer: Snapshot) -> Events:
        """Show `newer`, a later state of the same engine, by its log; what happened on the way.

        The snapshot shown before stays the caller's to close. LogGap, and nothing moved, when the log is cut off.
        """
        events: Events = []
        changes: list[Change] = []
        known = self.revision
        for stored, record in newer.scan(Table.LOG, log_key(known + 1), log_key(newer.revision + 1)):
            revision = int.from_bytes(stored, "big")
            if revision != known + 1:
                raise LogGap(f"revision {known + 1} is gone from the log, the next one is {revision}")
            known = revision
            for kind, key, framed, created in split_log(record):
                prev = None if created else newer.get(Table.HISTORY, hkey(key, revision))
                events.append((revision, kind, key, framed, prev))
                if kind or created:
                    changes.append((revision, key, created))
        if known != newer.revision:
            raise LogGap(f"revisions {known + 1} to {newer.revision} are gone from the log")
        self.snapshot, self.revision = newer, newer.revision
        self._take_changes(changes)
        return events

    def refresh(self) -> int:
        """Move to the engine's newest state, whose keys must be those of the index; returns its revision."""
        self.snapshot.close()
        self.snapshot = self._engine.snapshot()
        self.revision = self.snapshot.revision
        return self.revision

    def compact_revision(self) -> int:
        """Reads below are refused; 0: never compacted."""
        return parse_u64(self.snapshot.get(Table.META, META_COMPACT))

    def get(self, key: bytes) -> bytes | None:
        """The live KeyValue of a key, serialized."""
        return self.snapshot.get(Table.NOW, skey(key))

    def scan_now(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(key, KeyValue) of the live keys of a range, in key order. Take it all before the next `advance`."""
        if self._long_in_the_way(start, end):
            for key in self.index.keys(start, end):
                yield key, self._live(key)
        else:
            yield from self.snapshot.scan(Table.NOW, start, end)

    def count(self, start: bytes, end: bytes | None, revision: int) -> int:
        """Keys of the range at `revision`, exactly."""
        now = self.index.count(start, end)
        if revision >= self.revision:
            return now
        gained = self._churn.gained(revision, start, end)
        if gained is not None:
            return now - gained
        asked = (revision, start, end)
        if asked not in self._counts:
            self._remember(asked, self._walk(Span(start, end, revision, False, False), 0).taken)
        return self._counts[asked]

    def range(self, op: RangeOp, revision_now: int, compact_revision: int) -> RangeAnswer:
        """etcd's Range with every option. FutureRevision, Compacted."""
        span = self._span(op, revision_now, compact_revision)
        if op.count_only:
            return RangeAnswer(revision_now, b"", 0, self.count(span.start, span.end, span.revision), False)
        if is_custom(op):
            return self._custom(op, span, revision_now)
        page = self._page(self.snapshot, span, max(op.limit, 0), self._limits.whole)
        if not op.range_end:
            return RangeAnswer(revision_now, page.framed, page.taken, page.taken, False, page.length)
        count = self.count(span.start, span.end, span.revision)
        returned = min(op.limit, count) if op.limit > 0 else count
        if (span.revision, span.start, span.end) in self._counts:
            self._remember((span.revision, after(page), span.end), count - page.taken)
        if page.taken == returned:
            if span.latest and returned < count:
                self._churn.pin(span.revision)
            return RangeAnswer(revision_now, page.framed, returned, count, returned < count, page.length)
        rest = span._replace(start=after(page))
        left = returned - page.taken if op.limit > 0 else 0
        length = page.length + self._walk(rest, left).length
        parts = self._parts(page, rest._replace(latest=False), left)
        self._churn.pin(span.revision)
        return RangeAnswer(revision_now, b"", returned, count, returned < count, length, parts)

    def _load(self, attach: Attach) -> None:
        long: list[bytes] = []
        for keys, leased in live_keys(self.snapshot):
            for lease, key in leased:
                attach(key, lease)
            if any(map(is_long, keys)):
                long += filter(is_long, keys)
                keys = [key for key in keys if not is_long(key)]  # noqa: PLW2901  the rare case only
            self.index.extend(keys)
        for key in long:
            self.index.add(key)
            self._long.add(key)

    def _changes_after(self, revision: int) -> Iterable[Change]:
        if isinstance(self.snapshot, ReadTxn):
            return log_changes(self.snapshot, revision)
        return changes_since(self.snapshot, revision)

    def _span(self, op: RangeOp, revision_now: int, compact_revision: int) -> Span:
        if op.revision > revision_now:
            raise FutureRevision
        revision = op.revision if op.revision > 0 else revision_now
        if revision < compact_revision:
            raise Compacted
        start, end = range_bounds(op.key, op.range_end)
        return Span(start, end, revision, revision == revision_now, op.keys_only)

    def _check_readable(self, revision: int) -> None:
        if revision < self.compact_revision():
            raise Compacted

    def _long_in_the_way(self, start: bytes, end: bytes | None) -> bool:
        """Whether a plain scan of NOW would miss, misplace or wrongly take a long key."""
        return bool(len(self._long)) and (not scan_is_exact(start, end) or bool(self._long.count(start, end)))

    def _live(self, key: bytes) -> bytes:
        value = self.get(key)
        if value is None:
            raise LookupError(f"the index holds a key the store does not: {key!r}")
        return value

    def _page(self, snapshot: Snapshot, span: Span, limit: int, max_bytes: int) -> Page:
        """Up to `limit` (0: all) KeyValues of the range, or about `max_bytes`."""
        start, end = span.start, span.end
        if span.latest:
            if end == start + b"\0" and not span.keys_only:
                value = snapshot.get(Table.NOW, skey(start))
                framed = b"" if value is None else frame(KVS_TAG, value)
                return Page(framed, 1 if framed else 0, len(framed), start, False)
            if self._long_in_the_way(start, end):
                rows = ((key, self._live(key)) for key in self.index.keys(start, end))
                return page_of(rows, limit, max_bytes, span.keys_only)
            if not span.keys_only:
                framed, count, following = snapshot.values(Table.NOW, start, end, limit, max_bytes, KVS_TAG)
                last = None if following is None else self.index.slice(start, following, 1, True)[0]
                return Page(framed, count, len(framed), last, following is not None)
        if isinstance(snapshot, ReadTxn) and (span.latest or scan_is_exact(start, end)):
            found = read_page(snapshot, span, limit, max_bytes, True)
            if found is not None:
                return found
        return page_of(rows_at(snapshot, start, end, span.revision), limit, max_bytes, span.keys_only)

    def _remember(self, asked: Counted, count: int) -> None:
        self._counts[asked] = count
        if len(self._counts) > COUNTS:
            self._counts.popitem(last=False)

    def _walk(self, span: Span, limit: int) -> Page:
        """`_page` without a bound on bytes, and without the bytes where that saves work."""
        if not self._long_in_the_way(span.start, span.end) and scan_is_exact(span.start, span.end):
            if span.latest and not span.keys_only:
                length, taken = self.snapshot.measure(Table.NOW, span.start, span.end, limit)
                return Page(b"", taken, length, None, False)
            if isinstance(self.snapshot, ReadTxn):
                found = read_page(self.snapshot, span, limit, UNBOUNDED, False)
                if found is not None:
                    return found
        return self._page(self.snapshot, span, limit, UNBOUNDED)

    def _parts(self, first: Page, span: Span, left: int) -> Iterator[bytes]:
        """The pieces of a large list, `left` (0: all) KeyValues after the first; each is read when it is asked for."""
        limited = left > 0
        yield first.framed
        cut = True
        while cut:
            self._check_readable(span.revision)
            page = self._page(self.snapshot, span, left, self._limits.piece)
            yield page.framed
            left -= page.taken if left else 0
            cut = page.cut and bool(left or not limited)
            span = span._replace(start=after(page))

    def _custom(self, op: RangeOp, span: Span, revision_now: int) -> RangeAnswer:
        """A range with a sort order or with filters: everything is read, then filtered, sorted and cut, in this
        order.
        """
        rows = [parse_kv(value) for _, value in self._rows(span, 0 if reads_all(op) else max(op.limit, 0))]
        rows = [kv for kv in rows if passes(op, kv)]
        if op.sort_target != SortTarget.KEY or op.sort_order == SortOrder.DESCEND:
            rows.sort(key=SORT_KEYS[op.sort_target], reverse=op.sort_order == SortOrder.DESCEND)
        more = 0 < op.limit < len(rows)
        rows = rows[: op.limit] if more else rows
        pieces = [frame(KVS_TAG, encode_kv(kv._replace(value=b"") if op.keys_only else kv)) for kv in rows]
        count = self.count(span.start, span.end, span.revision)
        length = sum(map(len, pieces))
        if length > self._limits.whole:
            return RangeAnswer(revision_now, b"", len(rows), count, more, length, iter(pieces))
        return RangeAnswer(revision_now, b"".join(pieces), len(rows), count, more, length)

    def _rows(self, span: Span, limit: int) -> Iterable[tuple[bytes, bytes]]:
        """Rows of the range in key order; one more than `limit` (0: all), to tell whether there are more."""
        if span.latest:
            rows: Iterable[tuple[bytes, bytes]] = self.scan_now(span.start, span.end)
        else:
            rows = rows_at(self.snapshot, span.start, span.end, span.revision)
        return islice(rows, limit + 1) if limit else rows
