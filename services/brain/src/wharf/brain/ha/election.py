"""Standing for election, and staying elected: the lease in Redis, looked at, taken, renewed and given back.

Decides nothing about safety: `wharf.common.lease` says what may be believed. Here is when to ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wharf.common.clock import CLOCK, Clock
from wharf.common.lease import Record, Seen, Tenure
from wharf.common.lease_redis import Held, LeaseUnavailable, RedisLease, new_holder

log = logging.getLogger(__name__)

LOOKS: Final = 10  # at the lease, in one lifetime of it
RENEWALS: Final = 4
AFTER_SUCCESSOR: Final = 1.0  # lifetimes that a free lease is left to the successor that its record names
EARLY: Final = 0.005  # seconds that a timer may be early
AFTER_FAILURE: Final = 2.0  # lifetimes that a node whose engine failed leaves to others


class Election:
    """For the loop thread; callbacks are plain functions set before `run`."""

    def __init__(self, lease: RedisLease, member_id: int, address: str, ttl_ms: int, clock: Clock = CLOCK) -> None:
        self.ttl_ms = ttl_ms
        self.on_won: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self.on_leader: Callable[[str], None] = _nobody
        self._lease, self._address, self._clock = lease, address, clock
        self._member = f"{member_id:x}"
        self._seen = Seen()
        self._tenure: Tenure | None = None
        self._after_release = self._after_failure = 0.0  # this node does not stand before
        self._withdrawn = False
        self._contact = 0
        self._soon = asyncio.Event()
        self._renewed = asyncio.Event()
        self._complained = False

    # What is believed

    def may_lead(self) -> bool:
        """Whether nobody else can have acknowledged anything up to now."""
        return self._tenure is not None and self._tenure.may_lead(self._clock.now())

    def left(self) -> float:
        """Seconds this node may still believe without a renewal."""
        return 0.0 if self._tenure is None else max(0.0, self._tenure.until - self._clock.now())

    # What happens

    def look_soon(self) -> None:
        self._soon.set()

    def back_off(self) -> None:
        """This node would make a poor leader just now."""
        self._after_failure = self._clock.now() + AFTER_FAILURE * self.ttl_ms / 1000

    def withdraw(self) -> None:
        """Do not stand any more."""
        self._withdrawn = True

    async def succeed(self, epoch: int, previous_ms: int) -> None:
        """The engine is promoted to `epoch`, its last writer believed for `previous_ms` at a time: wait until nobody
        before can believe any more. The lease may be lost meanwhile, then `on_lost` has said so.
        """
        if self._tenure is None:
            return
        self._tenure = self._tenure.promoted(epoch, previous_ms, self._clock.now())
        self._soon.set()  # only a renewal from now on proves that nobody has won meanwhile
        wait = self._tenure.from_ - self._clock.now()
        if wait > 0:
            log.info("waiting %.2f s until whoever led before cannot believe it any more", wait)
            await asyncio.sleep(wait + EARLY)
        while self._tenure is not None and not self._tenure.confirmed:
            self._renewed.clear()
            await self._renewed.wait()

    async def release(self, successor: int = 0) -> None:
        """Give the lease back; nothing is believed from now on. When Redis does not answer, it runs out by itself. The
        other candidates leave the lease to `successor`, a member id, for `AFTER_SUCCESSOR`; 0: to nobody.
        """
        tenure, self._tenure = self._tenure, None
        if tenure is None:
            return
        self._after_release = self._clock.now() + self.ttl_ms / 1000
        try:
            name = f"{successor:x}" if successor else ""
            await self._lease.release(tenure.refused().farewell(self._clock.now(), name))
        except LeaseUnavailable as error:
            log.warning("the lease could not be given back, it will run out: %s", error)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            interval = self.ttl_ms / 1000 / (LOOKS if self._tenure is None else RENEWALS)
            try:
                await (self._look() if self._tenure is None else self._renew())
                self._complained = False
            except LeaseUnavailable as error:
                self._seen = self._seen.lost_contact()
                if not self._complained:
                    log.warning("no answer about the leader's lease: %s", error)
                self._complained = True
                self._lose_if_over()
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._soon.wait()
            self._soon.clear()

    async def _look(self) -> None:
        look = await self._lease.look()
        self._note_contact()
        self._seen = self._seen.observe(look.record, look.received_at)
        if look.holder is not None:
            if look.record is not None and look.record.holder == look.holder:
                self.on_leader(look.record.address)
        elif not self._withdrawn and self._may_stand(look.record):
            await self._stand()

    def _may_stand(self, record: Record | None) -> bool:
        """Whether this node may take the lease, which is free; `record` is what its last holder left.
        Who is named in it need not wait for others, but for its own engine.
        """
        now, successor = self._clock.now(), "" if record is None else record.successor
        if successor == self._member:
            return now >= self._after_failure
        after_successor = self._seen.since + AFTER_SUCCESSOR * self.ttl_ms / 1000 if successor else 0.0
        return now >= max(self._after_failure, self._after_release, after_successor)

    async def _stand(self) -> None:
        record = Record(new_holder(self._member), self._address, 0, self.ttl_ms)
        outcome = await self._lease.acquire(record)
        self._note_contact()
        if isinstance(outcome, Held):
            self._soon.set()  # somebody was faster: see who
            return
        self._tenure = Tenure.begin(record, outcome, self._seen)
        if self._withdrawn:  # meanwhile
            await self.release()
        else:
            self.on_won()

    def _note_contact(self) -> None:
        """What was seen over another connection may be newer than what this one shows."""
        if self._lease.contact != self._contact:
            self._contact, self._seen = self._lease.contact, Seen()

    async def _renew(self) -> None:
        tenure = self._tenure
        if tenure is None:
            return
        self._tenure = tenure.next(self._clock.now())
        answer = await self._lease.renew(self._tenure.record)
        if self._tenure is None or self._tenure.record.holder != tenure.record.holder:
            return
        self._tenure = answer.apply(self._tenure)
        self._renewed.set()
        self._lose_if_over()

    def _lose_if_over(self) -> None:
        if self._tenure is not None and not self._tenure.holds(self._clock.now()):
            self._tenure = None
            self._seen = Seen()
            self._renewed.set()
            self.on_lost()


def _nothing() -> None: ...


def _nobody(_: str) -> None: ...
