"""Alarms and the quota behind NOSPACE.

As in etcd the write that would pass the quota raises the alarm and is refused, and so is every write that adds data
until the alarm is disarmed, whatever has been freed meanwhile; deleting, compacting and reading go on. Alarms outlive
a restart.

An alarm is a kind and the id of the member that it is raised for; any id is accepted, 0 too. One alarm of a kind is
enough for its effect.

Invariant: `room()` is what `charge` decides by, and 0 while NOSPACE is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from wharf.brain.engine.base import Engine, Snapshot, Table
from wharf.brain.errors import BrainError, CorruptStore
from wharf.brain.store._codec import Pending
from wharf.brain.store.keys import ALARM_PREFIX, encode_u64, parse_u64, prefix_end

log = logging.getLogger(__name__)

NOSPACE, CORRUPT = "NOSPACE", "CORRUPT"
NO_QUOTA = 1 << 62


class Alarm(NamedTuple):
    name: str  # its kind, by etcd's name
    member_id: int  # an unsigned number of 64 bits


class Alarms:
    """Which alarms are raised; changes count once they are durable."""

    def __init__(self, engine: Engine, quota_bytes: int) -> None:
        self._engine = engine
        self._quota = quota_bytes
        self.member_id = 0  # of this node
        self._records: dict[Alarm, bytes] = {}  # raised alarms → their META keys
        self._raising = False
        self._waiting: list[Callable[[], None]] = []  # refusals that go out once the alarm is durable

    def load(self, snapshot: Snapshot) -> None:
        self._records = {}
        for key, value in snapshot.scan(Table.META, ALARM_PREFIX, prefix_end(ALARM_PREFIX)):
            name, _, member = key[len(ALARM_PREFIX) :].decode().partition("/")
            # Records without a member in the key are of older releases: one a kind, of the node that leads.
            self._records[Alarm(name, int(member, 16) if member else parse_u64(value) or self.member_id)] = key

    def names(self) -> tuple[str, ...]:
        """The kinds that are raised."""
        return tuple(sorted({alarm.name for alarm in self._records}))

    def raised(self) -> tuple[Alarm, ...]:
        return tuple(sorted(self._records))

    def write_refusal(self) -> BrainError | None:
        """The error for writes, compactions, grants and revocations while CORRUPT is raised; None: they are allowed."""
        return CorruptStore() if self._is_raised(CORRUPT) else None

    def room(self) -> int:
        """Bytes writes may still add. Pages that are free again count as room without a defragmentation."""
        if self._is_raised(NOSPACE):
            return 0
        if self._quota <= 0:
            return NO_QUOTA
        room = self._quota - self._engine.size()
        return room if room > 0 else self._quota - self._engine.size_in_use()

    def write(self, pending: Pending, alarm: Alarm, raised: bool) -> None:
        pending.write(Table.META, self._key(alarm), encode_u64(alarm.member_id) if raised else None)

    def settle(self, alarm: Alarm, raised: bool) -> None:
        """What `write` wrote is durable."""
        if raised:
            self._records[alarm] = self._key(alarm)
        else:
            self._records.pop(alarm, None)

    def out_of_space(self, set_alarm: Callable[[Alarm, bool, Callable[[BrainError | None], None]], None]) -> None:
        """A write found no room: raise NOSPACE, once."""
        if self._is_raised(NOSPACE) or self._raising:
            return
        log.warning("the database space quota is exceeded: puts are refused until the NOSPACE alarm is disarmed")
        self._raising = True
        set_alarm(Alarm(NOSPACE, self.member_id), True, self._answered)

    def once_raised(self, refuse: Callable[[], None]) -> None:
        """Give a refusal for want of space; whoever gets it finds the alarm raised, now and after a restart."""
        if self._raising:
            self._waiting.append(refuse)
        else:
            refuse()

    def _is_raised(self, name: str) -> bool:
        return any(alarm.name == name for alarm in self._records)

    def _key(self, alarm: Alarm) -> bytes:
        return self._records.get(alarm) or ALARM_PREFIX + b"%b/%016x" % (alarm.name.encode(), alarm.member_id)

    def _answered(self, _: BrainError | None) -> None:
        self._raising = False
        waiting, self._waiting = self._waiting, []
        for refuse in waiting:
            refuse()
