"""Alarms and the quota behind NOSPACE.

As in etcd the write that would pass the quota raises the alarm and is refused, and so is every write that adds data
until the alarm is disarmed, whatever has been freed meanwhile; deleting, compacting and reading go on. Alarms outlive
a restart.

Invariant: `room()` is what `charge` decides by, and 0 while NOSPACE is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from wharf.brain.engine.base import Engine, Snapshot, Table
from wharf.brain.errors import BrainError, CorruptStore
from wharf.brain.store._codec import Pending
from wharf.brain.store.keys import ALARM_PREFIX, encode_u64, prefix_end

log = logging.getLogger(__name__)

NOSPACE, CORRUPT = "NOSPACE", "CORRUPT"
NO_QUOTA = 1 << 62


class Alarms:
    """Which alarms are raised; changes count once they are durable."""

    def __init__(self, engine: Engine, quota_bytes: int) -> None:
        self._engine = engine
        self._quota = quota_bytes
        self._raised: set[str] = set()
        self._raising = False
        self._waiting: list[Callable[[], None]] = []  # refusals that go out once the alarm is durable

    def load(self, snapshot: Snapshot) -> None:
        stored = snapshot.scan(Table.META, ALARM_PREFIX, prefix_end(ALARM_PREFIX))
        self._raised = {key[len(ALARM_PREFIX) :].decode() for key, _ in stored}

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._raised))

    def refusal(self) -> BrainError | None:
        """What every request is answered with while data cannot be trusted."""
        return CorruptStore() if CORRUPT in self._raised else None

    def room(self) -> int:
        """Bytes writes may still add. Pages that are free again count as room without a defragmentation."""
        if NOSPACE in self._raised:
            return 0
        if self._quota <= 0:
            return NO_QUOTA
        room = self._quota - self._engine.size()
        return room if room > 0 else self._quota - self._engine.size_in_use()

    def write(self, pending: Pending, name: str, raised: bool, member_id: int) -> None:
        pending.write(Table.META, ALARM_PREFIX + name.encode(), encode_u64(member_id) if raised else None)

    def settle(self, name: str, raised: bool) -> None:
        """What `write` wrote is durable."""
        if raised:
            self._raised.add(name)
        else:
            self._raised.discard(name)

    def out_of_space(self, set_alarm: Callable[[str, bool, Callable[[BrainError | None], None]], None]) -> None:
        """A write found no room: raise NOSPACE, once."""
        if NOSPACE in self._raised or self._raising:
            return
        log.warning("the database space quota is exceeded: puts are refused until the NOSPACE alarm is disarmed")
        self._raising = True
        set_alarm(NOSPACE, True, self._answered)

    def once_raised(self, refuse: Callable[[], None]) -> None:
        """Give a refusal for want of space; whoever gets it finds the alarm raised, now and after a restart."""
        if self._raising:
            self._waiting.append(refuse)
        else:
            refuse()

    def _answered(self, _: BrainError | None) -> None:
        self._raising = False
        waiting, self._waiting = self._waiting, []
        for refuse in waiting:
            refuse()
