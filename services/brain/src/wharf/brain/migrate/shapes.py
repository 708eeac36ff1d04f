"""What moves from one store to another, and the decisions about it. Pure: no sockets, no engines, no clock.

A migration has one consistent revision R it copies from, pages pinned at R, then transactions in the order of their
revisions, without a gap, up to the revision N at which it is cut over; at the end both sides have the same
`Fingerprint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from wharf.brain.store.ttl import MIN_TTL, Lease

FIRST_PAGE, LEAST_PAGE, MOST_PAGE = 500, 16, 10_000  # keys
PAGE_BYTES = 4 << 20  # what a page is aimed at
_DIGEST = 16  # bytes of the hash of one key
_MODULUS = 1 << 8 * _DIGEST


class MigrationFailed(Exception):
    """The migration cannot go on; the text is for the terminal and says what to do."""


class Change(NamedTuple):
    """One event: `kv` is the serialized KeyValue after it (of a deletion: key and revision only)."""

    kind: int  # 0 PUT, 1 DELETE
    key: bytes
    kv: bytes


class Transaction(NamedTuple):
    """All events of one revision, in order."""

    revision: int
    changes: Sequence[Change]


class SourceLease(NamedTuple):
    """A lease as its store tells it; seconds, the remaining ones rounded down."""

    lease_id: int
    granted: int
    remaining: int


def next_limit(limit: int, keys: int, size: int) -> int:
    """Keys to ask for in the next page after `keys` that took `size` bytes, so that a page is about `PAGE_BYTES`.

    Grows at most fourfold: one page of small values says little about the next.
    """
    if not keys:
        return limit
    return max(LEAST_PAGE, min(PAGE_BYTES * keys // max(size, 1), 4 * limit, MOST_PAGE))


def as_lease(lease: SourceLease, now: int) -> Lease:
    """The lease to store at `now` (milliseconds of served time) so that it never ends earlier than at the source."""
    granted = max(lease.granted, MIN_TTL)
    seconds = min(max(lease.remaining, 0) + 1, granted)
    return Lease(lease.lease_id, granted, now + seconds * 1000)


def orphans(referenced: Iterable[int], known: Iterable[SourceLease]) -> list[SourceLease]:
    """Leases that keys are attached to and the source has just ended: the keys are about to go, so they get the
    shortest life there is."""
    held = {lease.lease_id for lease in known}
    return [SourceLease(lease_id, MIN_TTL, MIN_TTL) for lease_id in sorted(set(referenced) - held)]


@dataclass(slots=True)
class Fingerprint:
    """Count, size and hash of a set of live keys, whatever the order they are added in.

    Hashes are added up: both sides can be read in their own order, and in bounded memory.
    """

    keys: int = 0
    size: int = 0  # bytes hashed
    total: int = 0

    def add(self, kv: bytes) -> None:
        self.keys += 1
        self.size += len(kv)
        self.total = (self.total + int.from_bytes(blake2b(kv, digest_size=_DIGEST).digest(), "big")) % _MODULUS

    def __str__(self) -> str:
        return f"{self.keys} keys, hash {self.total:032x}"


class Gap(MigrationFailed):
    """A revision is missing between two that arrived."""


class Assembler:
    """Transactions out of watch responses: events of one revision may be spread over fragments.

    Holds the events of one revision at most. Revisions that were given already are left out; `Gap` when one is
    missing, which a watch over all keys never does unless history was compacted away under it.
    """

    def __init__(self, last: int) -> None:
        self.last = last  # newest revision handed out
        self._revision = last
        self._changes: list[Change] = []

    def feed(self, events: Iterable[tuple[int, Change]], fragment: bool) -> list[Transaction]:
        """(revision, change) of one response, in order; `fragment`: the next response goes on with its revisions."""
        found: list[Transaction] = []
        for revision, change in events:
            if revision <= self.last:
                continue
            if revision != self._revision:
                self._finish(found)
                if revision != self.last + 1:
                    raise Gap(f"revision {revision} arrived where {self.last + 1} was due")
                self._revision = revision
            self._changes.append(change)
        if not fragment:
            self._finish(found)
        return found

    def _finish(self, found: list[Transaction]) -> None:
        if self._changes:
            found.append(Transaction(self._revision, self._changes))
            self.last, self._changes = self._revision, []


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When following ends. All zero and False: when told to."""

    until: int = 0  # revision to stop at exactly
    quiet: float = 0.0  # seconds for which the source must stand still, everything copied; 0: however long


class CutOver:
    """Decides at which revision a migration ends. `target`: that revision, once decided."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self.target: int | None = ending.until or None
        self.announced = False
        self._still_since: tuple[int, float] | None = None
        self._before: int | None = None  # where the source stood when it was asked last

    def reached(self, applied: int) -> bool:
        return self.target is not None and applied >= self.target

    def asked(self, source: int) -> None:
        """Somebody wants it to end: at `source`, the newest revision there, unless it ends earlier anyway."""
        self.target = source if self.target is None else min(self.target, source)

    @property
    def advice(self) -> str:
        """What there is to do for whoever waits, once everything is copied."""
        if self._ending.quiet:
            return "stop the source's writers: it ends by itself once the source stands still"
        if self._ending.until:
            return f"it ends at revision {self._ending.until}"
        return "stop the source's writers, then press Ctrl-C"

    def saw(self, source: int, applied: int, now: float) -> bool:
        """The source stood at `source`, `applied` is here; True the first time that the copy has caught up.

        Under writes that never stop something is always on its way: it has caught up once it holds all that the
        source had when asked before.
        """
        before, self._before = self._before, source
        if source > applied:
            self._still_since = None
            return before is not None and applied >= before and self._announce()
        if self._still_since is None or self._still_since[0] != source:
            self._still_since = (source, now)
        if self._ending.quiet and now - self._still_since[1] >= self._ending.quiet:
            self.asked(source)
        return self._announce()

    def _announce(self) -> bool:
        first, self.announced = not self.announced, True
        return first
