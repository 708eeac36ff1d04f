"""etcd leases as a state machine on the clock of served seconds. Pure: `now` is an argument, milliseconds of that
clock.

A lease is its id, its granted time to live and a deadline; the keys attached to it are known by the KeyValues
themselves and kept here only to find them fast. Persisting, deleting keys and waiting are the store's.

Invariant: the deadline queue holds at least one item at or before every lease's deadline; items that are out of date
are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from wharf.brain.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge

MAX_TTL = 9_000_000_000  # seconds, etcd's
MIN_TTL = 2  # seconds: etcd's three halves of an election timeout (10 ticks of 100 ms), rounded up
_RECORD = struct.Struct(">qq")


@dataclass(slots=True)
class Lease:
    lease_id: int
    ttl: int  # seconds granted
    deadline: int  # milliseconds on the clock of served seconds
    keys: set[bytes] = field(default_factory=set)

    def remaining(self, now: int) -> int:
        """Whole seconds left, 0 when overdue."""
        return max(0, self.deadline - now) // 1000


@dataclass(frozen=True, slots=True)
class Granted:
    """LeaseGrant's answer; `revision`: of the state that the lease was granted in."""

    lease_id: int
    ttl: int
    revision: int


@dataclass(frozen=True, slots=True)
class Remaining:
    """TimeToLive's answer; ttl -1: no such lease."""

    lease_id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...]


def encode_lease(lease: Lease) -> bytes:
    return _RECORD.pack(lease.ttl, lease.deadline)


def parse_lease(lease_id: int, stored: bytes) -> Lease:
    ttl, deadline = _RECORD.unpack(stored)
    return Lease(lease_id, ttl, deadline)


class LeaseTable:
    """All leases; every change hands back how to undo it, because a batch may still fail."""

    __slots__ = ("_due", "_leases")

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._due: list[tuple[int, int]] = []  # (deadline, id), a heap

    def __len__(self) -> int:
        return len(self._leases)

    def load(self, leases: list[Lease]) -> None:
        self._leases = {lease.lease_id: lease for lease in leases}
        self._due = [(lease.deadline, lease.lease_id) for lease in leases]
        heapify(self._due)

    def all(self) -> Iterable[Lease]:
        return self._leases.values()

    def holds(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def get(self, lease_id: int) -> Lease:
        """The lease; LeaseNotFound."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound
        return lease

    def grant(self, lease_id: int, ttl: int, now: int, undo: list[Callable[[], None]]) -> Lease:
        """A new lease of at least `MIN_TTL` seconds; LeaseTtlTooLarge, LeaseExists."""
        if ttl > MAX_TTL:
            raise LeaseTtlTooLarge
        if lease_id in self._leases:
            raise LeaseExists
        ttl = max(ttl, MIN_TTL)
        lease = self._leases[lease_id] = Lease(lease_id, ttl, now + ttl * 1000)
        heappush(self._due, (lease.deadline, lease_id))
        undo.append(lambda: self._forget(lease_id))
        return lease

    def renew(self, lease_id: int, now: int) -> Lease:
        """The lease with its whole time to live again; LeaseNotFound, also when it is over and only waits to be
        removed.

        Not undone: living longer than stored is safe.
        """
        lease = self.get(lease_id)
        if lease.deadline <= now:
            raise LeaseNotFound
        lease.deadline = max(lease.deadline, now + lease.ttl * 1000)
        return lease

    def remove(self, lease_id: int, undo: list[Callable[[], None]]) -> Lease:
        """Take a lease away, revoked or expired; LeaseNotFound. Its keys are the caller's to delete."""
        lease = self.get(lease_id)
        del self._leases[lease_id]
        undo.append(lambda: self._restore(lease))
        return lease

    def move(self, key: bytes, old: int, new: int, undo: list[Callable[[], None]]) -> None:
        """`key` leaves lease `old` and joins lease `new`; 0 is no lease."""
        self._attach(key, old, new)
        undo.append(lambda: self._attach(key, new, old))

    def _attach(self, key: bytes, old: int, new: int) -> None:
        left, joined = self._leases.get(old), self._leases.get(new)
        if left is not None:
            left.keys.discard(key)
        if joined is not None:
            joined.keys.add(key)

    def _forget(self, lease_id: int) -> None:
        self._leases.pop(lease_id, None)

    def _restore(self, lease: Lease) -> None:
        self._leases[lease.lease_id] = lease
        heappush(self._due, (lease.deadline, lease.lease_id))

    def next_deadline(self) -> int | None:
        """When the first lease expires; None without leases."""
        while self._due:
            deadline, lease_id = self._due[0]
            lease = self._leases.get(lease_id)
            if lease is None or lease.deadline < deadline:
                heappop(self._due)
            elif lease.deadline > deadline:
                heappop(self._due)
                heappush(self._due, (lease.deadline, lease_id))
            else:
                return deadline
        return None

    def expired(self, now: int, limit: int) -> list[int]:
        """Up to `limit` leases whose time is over, the earliest first; they stay until removed."""
        found: dict[int, int] = {}
        while len(found) < limit:
            deadline = self.next_deadline()
            if deadline is None or deadline > now:
                break
            found[heappop(self._due)[1]] = deadline
        for lease_id, deadline in found.items():
            heappush(self._due, (deadline, lease_id))
        return list(found)

    def time_to_live(self, lease_id: int, now: int) -> Remaining:
        lease = self._leases.get(lease_id)
        if lease is None:
            return Remaining(lease_id, -1, 0, ())
        return Remaining(lease_id, lease.remaining(now), lease.ttl, tuple(sorted(lease.keys)))

    def by_deadline(self) -> list[int]:
        """Ids of all leases, the first to expire first."""
        return [lease.lease_id for lease in sorted(self._leases.values(), key=lambda lease: lease.deadline)]

    def attach_stored(self, key: bytes, lease_id: int) -> None:
        """While loading: `key` was found attached; a lease that is gone is ignored."""
        self._attach(key, 0, lease_id)
