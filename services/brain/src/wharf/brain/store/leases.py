"""Leases in the running store: requests and expiry turned into batches, the deadline turned into one timer.

The clock of served seconds is written with every batch and, while leases exist, at least once a second. A restart
resumes it where it stopped, so downtime never kills a lease and extends it at most by itself and one second. A
renewal is acknowledged when the new deadline is stored, for the same reason. A refusal ("not found", "already exists")
depends on what is pending and is answered with it.

Invariant: a lease that is over is removed together with its keys, in one batch and, if it has keys, one revision.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from wharf.brain.engine.base import Table
from wharf.brain.errors import BrainError, LeaseNotFound
from wharf.brain.store._codec import Pending, encode_kv
from wharf.brain.store.keys import META_CLOCK, encode_u64, lease_key
from wharf.brain.store.overlay import View
from wharf.brain.store.shapes import EventKind
from wharf.brain.store.ttl import Granted, Lease, LeaseTable, Remaining, encode_lease
from wharf.common.clock import Clock
from wharf.wire.timers import attempt

if TYPE_CHECKING:
    from wharf.brain.store._codec import Change

T = TypeVar("T")

CHECKPOINT = 1.0  # seconds between stored clocks while leases exist
RETRY = 1000  # milliseconds after an expiry that was refused
EXPIRE_AT_ONCE = 500  # leases per turn of the loop, etcd's rate for half a second
LEASE_COST = 64  # bytes of quota, etcd's estimate


class Timer(Protocol):
    def cancel(self) -> None: ...


class Writer(Protocol):
    """What leases need of the store."""

    def pending(self) -> Pending:
        """The batch being filled; raises when nothing may join it."""

    def check_writable(self) -> None:
        """Raises when leases may be neither granted nor removed."""

    def view(self) -> View:
        """All keys as the next transaction sees them."""

    def wake(self) -> None:
        """`pending` has grown."""

    def charge(self, cost: int) -> None:
        """Raises when the quota has no room for `cost` bytes."""


class ServedClock:
    """Milliseconds this store has been served, over all its runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._base, self._since = 0, clock.now()

    def resume(self, stored: int) -> None:
        self._base, self._since = stored, self._clock.now()

    def now(self) -> int:
        return self._base + int((self._clock.now() - self._since) * 1000)


class Leases:
    """Grant, revoke, keep alive, look up; `done` callbacks come when the change is durable."""

    def __init__(self, writer: Writer, clock: Clock, call_later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self.table = LeaseTable()
        self.clock = ServedClock(clock)
        self._writer = writer
        self._call_later = call_later
        self._expiry: Timer | None = None
        self._expiry_at = 0
        self._not_before = 0  # an expiry was refused: when to try again
        self._checkpoint: Timer | None = None
        self._running = False

    def grant(self, lease_id: int, ttl: int, done: Callable[[Granted | BrainError], None]) -> None:
        """A lease with `lease_id`, or with a new random positive id for 0."""
        lease_id = lease_id or self._unused_id()
        answer: Granted | BrainError
        try:
            self._writer.check_writable()
            pending = self._writer.pending()
        except BrainError as error:
            done(error)
            return
        try:
            self._writer.charge(LEASE_COST)
            lease = self.table.grant(lease_id, ttl, self.clock.now(), pending.undo)
        except BrainError as error:
            answer = error
        else:
            pending.write(Table.META, lease_key(lease_id), encode_lease(lease))
            answer = Granted(lease_id, lease.ttl, pending.revision)
        pending.answer(done, answer, lambda: self.grant(lease_id, ttl, done), None)
        self._writer.wake()
        self._arm()

    def revoke(self, lease_id: int, done: Callable[[int | BrainError], None]) -> None:
        """Remove the lease and delete its keys; `done` gets the revision of the state without them."""
        self._remove(lease_id, done)

    def keep_alive(self, lease_id: int, done: Callable[[int | BrainError], None]) -> None:
        """The whole time to live again: `done` gets it in seconds, 0 for a lease that is gone."""
        try:
            pending = self._writer.pending()
        except BrainError as error:
            done(error)
            return
        try:
            lease = self.table.renew(lease_id, self.clock.now())
        except LeaseNotFound:
            ttl = 0
        else:
            ttl = lease.ttl
            pending.write(Table.META, lease_key(lease_id), encode_lease(lease))
        pending.answer(done, ttl, lambda: self.keep_alive(lease_id, done), None)
        self._writer.wake()

    def tell(self, look: Callable[[], T], done: Callable[[T | BrainError], None]) -> None:
        """`done` gets what `look` sees of the leases now, once all that it sees is durable."""
        try:
            pending = self._writer.pending()
        except BrainError as error:
            done(error)
            return
        pending.answer(done, look(), lambda: self.tell(look, done), None)
        self._writer.wake()

    def revision(self) -> int:
        """Of the state that a look of `tell` sees."""
        return self._writer.pending().revision

    def time_to_live(self, lease_id: int) -> Remaining:
        return self.table.time_to_live(lease_id, self.clock.now())

    def list(self) -> list[int]:
        """Ids, the first to expire first."""
        return self.table.by_deadline()

    def start(self) -> None:
        """Expire from now on."""
        self._running = True
        self._arm()

    def stop(self) -> None:
        self._running = False
        for timer in (self._expiry, self._checkpoint):
            if timer is not None:
                timer.cancel()
        self._expiry = self._checkpoint = None

    def _unused_id(self) -> int:
        while True:
            lease_id = secrets.randbits(63)
            if lease_id and not self.table.holds(lease_id):
                return lease_id

    def _remove(self, lease_id: int, done: Callable[[int | BrainError], None]) -> None:
        answer: int | BrainError
        try:
            self._writer.check_writable()
            pending = self._writer.pending()
        except BrainError as error:
            done(error)
            return
        try:
            lease = self.table.remove(lease_id, pending.undo)
        except LeaseNotFound as error:
            answer = error
        else:
            self._delete(lease, pending)
            answer = pending.revision
        pending.answer(done, answer, lambda: self._remove(lease_id, done), None)
        self._writer.wake()

    def _delete(self, lease: Lease, pending: Pending) -> None:
        """The end of a lease and of its keys, in one revision."""
        view, revision = self._writer.view(), pending.revision + 1
        changes: list[Change] = []
        for key in sorted(lease.keys):
            kv = view.get(key)
            if kv is not None:
                changes.append((int(EventKind.DELETE), key, encode_kv(key, 0, revision, 0, b"", 0), kv, False))
        if changes:
            pending.record(changes)
        pending.write(Table.META, lease_key(lease.lease_id), None)

    def _arm(self) -> None:
        """Wake at the first deadline, and once a second for the clock."""
        deadline = self.table.next_deadline()
        if not self._running or deadline is None:
            return
        if self._checkpoint is None:
            self._checkpoint = self._call_later(CHECKPOINT, self._store_clock)
        when = max(deadline, self._not_before)
        if self._expiry is None or when < self._expiry_at:
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry_at = when
            self._expiry = self._call_later(max(0, when - self.clock.now()) / 1000, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if not attempt("end expired leases", self._remove_expired):
            self._not_before = self.clock.now() + RETRY
        self._arm()

    def _remove_expired(self) -> None:
        for lease_id in self.table.expired(self.clock.now(), EXPIRE_AT_ONCE):
            self._remove(lease_id, self._expired)

    def _expired(self, outcome: int | BrainError) -> None:
        """An expiry that was refused is tried again a while later."""
        if isinstance(outcome, BrainError):
            self._not_before = self.clock.now() + RETRY
            self._arm()

    def _store_clock(self) -> None:
        self._checkpoint = None
        if not len(self.table):
            return
        attempt("store the clock of leases", self._write_clock)
        self._arm()

    def _write_clock(self) -> None:
        try:
            self._writer.pending().write(Table.META, META_CLOCK, encode_u64(self.clock.now()))
        except BrainError:
            pass  # a full queue stores the clock by itself, a stopped store never again
        else:
            self._writer.wake()
