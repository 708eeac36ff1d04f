"""Who may lead: what a holder of the lease may believe, and how long its successor must wait. Pure; `now` is passed in.

The lease lives on a server that may lose it, so it elects and proves little. Two rules make it safe:

- The holder believes from before it *sent* a renewal until the lease's time later, by its own boot clock, and once that
  is over it never believes again under the same holder id.
- A successor acknowledges nothing before its predecessor cannot believe any more. How long that is it knows from the
  record beside the lease, which outlives it: every renewal has a counter of its own, so a record found unchanged since
  it was first seen means that no renewal came later. Whatever it cannot show it waits for in full.

    holder     renew #7 ├──────── believes ────────┤
    server              └ record #7 ─────────────── lease expires
    successor             seen #7 ├──────── waits, and wins meanwhile ─────┤ leads

The fence closes the rest. A holder raises it in the engine (`Tenure.promoted`) and leads only after one more renewal,
sent after that, was granted: whoever had lost the lease by then is refused and never leads, however new its fence;
whoever gets it later sees this fence and waits this holder out.

Times are seconds of the boot clock; clocks of two machines may differ in speed by DRIFT of each from true time.
Assumed: the server executes each request at most once (who sends never repeats one), and an interruption of contact is
noticed and told (`Seen.lost_contact`), because what the server holds afterwards may be older than what it held before.

What this leaves to the caller: after `promoted`, bring the local state up to the engine's before the first answer; and
for each read look at the state first and ask `may_lead` then.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Final

DRIFT: Final = 0.01  # a boot clock gains or loses at most one hundredth
MAX_TEXT: Final = 1024  # characters of a holder id or an address
MAX_TTL_MS: Final = 3_600_000
_MAX_COUNTER: Final = 2**53 - 1  # what every JSON reader keeps exactly
_NEVER: Final = math.inf


class BadRecord(ValueError):
    """These bytes are no lease record."""


@dataclass(frozen=True, slots=True)
class Record:
    """What stands beside the lease, and stays when the lease is over."""

    holder: str  # unique to one attempt to lead, never used again
    address: str  # where the holder is reached
    counter: int  # of renewals, sent ones
    ttl_ms: int  # how long anybody up to this holder may believe after this record was written
    released: bool = False  # neither the holder nor anybody with a fence before believes any more
    epoch: int = 0  # fence of the holder, 0 until it has one
    successor: str = ""  # name of the candidate that the holder handed over to; empty: any


@dataclass(frozen=True, slots=True)
class Won:
    """The lease was taken: when, and what record it had."""

    found: Record | None
    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a candidate has seen of the record without losing contact."""

    record: Record | None = None
    since: float = 0.0  # when it had first been read

    def observe(self, record: Record | None, received_at: float) -> Seen:
        """After a look that was answered at `received_at`."""
        return self if record == self.record else Seen(record, received_at)

    def lost_contact(self) -> Seen:
        """After an error, a timeout, or a connection made anew."""
        return Seen()


def lead_from(won: Won, seen: Seen, epoch: int, previous_ttl_ms: int) -> float:
    """The moment from which nobody before `epoch` can believe. `previous_ttl_ms` is how long the holder of the fence
    before believes after its last renewal, as the engine remembers; 0 when there never was one.

    Released by the holder of the newest fence: at once. Unchanged since it was seen: its time from then. Anything else
    (a record wiped, changed, never seen): the longest time known, from the answer on.
    """
    found = won.found
    if found is not None and found.released and found.epoch >= epoch - 1:
        return won.received_at
    since = seen.since if found is not None and found == seen.record else won.received_at
    ttl_ms = max(previous_ttl_ms, 0 if found is None else found.ttl_ms)
    return since + ttl_ms / 1000 * (1 + DRIFT)


@dataclass(frozen=True, slots=True)
class Tenure:
    """One attempt to lead, from the lease won to the lease lost. Renew it all the while, also while it waits."""

    record: Record  # as it was last sent
    ttl_ms: int  # of the lease; the record says more while somebody before may believe longer
    won: Won
    seen: Seen  # until the lease was won
    until: float  # believes before this moment
    from_: float = _NEVER  # nobody before believes from this moment on
    promoted_at: float = _NEVER
    confirmed: bool = False  # renewed since the fence was raised

    @classmethod
    def begin(cls, record: Record, won: Won, seen: Seen) -> Tenure:
        """After `record` has won."""
        inherited = 0 if won.found is None else won.found.ttl_ms
        kept = replace(record, ttl_ms=max(record.ttl_ms, inherited))
        return cls(kept, record.ttl_ms, won, seen, _belief(record.ttl_ms, won.sent_at))

    def promoted(self, epoch: int, previous_ttl_ms: int, now: float) -> Tenure:
        """The engine has raised the fence to `epoch` for us, and remembered this of the holder before; `now` is when it
        had answered. Renew at once."""
        return replace(
            self,
            record=replace(self.record, epoch=epoch, ttl_ms=max(self.record.ttl_ms, previous_ttl_ms)),
            from_=lead_from(self.won, self.seen, epoch, previous_ttl_ms),
            promoted_at=now,
            confirmed=False,
        )

    def holds(self, now: float) -> bool:
        """Whether the lease is still believed in."""
        return now < self.until

    def may_lead(self, now: float) -> bool:
        """Whether it may acknowledge writes and answer reads: nobody before believes any more, and it does."""
        return self.confirmed and self.from_ <= now < self.until

    def next(self, now: float) -> Tenure:
        """With the record to send for one renewal; never send a record twice."""
        ttl_ms = self.ttl_ms if now >= self.from_ else self.record.ttl_ms
        return replace(self, record=replace(self.record, counter=self.record.counter + 1, ttl_ms=ttl_ms))

    def renewed(self, sent_at: float, received_at: float) -> Tenure:
        """A renewal was granted. A belief that was over by then stays over."""
        if not self.holds(received_at):
            return self.refused()
        until = max(self.until, _belief(self.ttl_ms, sent_at))
        return replace(self, until=until, confirmed=self.confirmed or sent_at >= self.promoted_at)

    def refused(self) -> Tenure:
        """The lease is somebody else's, or gone, or given up: over at once, for good."""
        return replace(self, until=-_NEVER)

    def farewell(self, now: float, successor: str = "") -> Record:
        """The record to release the lease with, after `refused`. It calls the lease released only when nobody before
        may believe either."""
        following = self.next(now).record
        return replace(following, released=now >= self.from_, successor=successor)


def _belief(ttl_ms: int, sent_at: float) -> float:
    return sent_at + ttl_ms / 1000 * (1 - DRIFT)


# Nodes of all releases read each other's records: an added field has a default in `Record` and is in `_OPTIONAL`.
_FIELDS: Final = {
    "holder": str,
    "address": str,
    "counter": int,
    "ttl_ms": int,
    "released": bool,
    "epoch": int,
    "successor": str,
}
_OPTIONAL: Final = frozenset({"released", "epoch", "successor"})


def encode_record(record: Record) -> bytes:
    """One JSON object. Releases that know of no successor take no record with one, so an empty one is left out."""
    fields = {name: getattr(record, name) for name in _FIELDS if name != "successor" or record.successor}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def parse_record(data: bytes) -> Record:
    """The inverse of `encode_record`: unknown fields are ignored, missing optional ones have their defaults. BadRecord
    for anything else: another field is missing, has another type or is out of range.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecord("a lease record is not JSON") from error
    if not isinstance(fields, dict) or not fields.keys() >= _FIELDS.keys() - _OPTIONAL:
        raise BadRecord("a lease record lacks a field")
    known = {name: fields[name] for name in _FIELDS if name in fields}
    if any(type(value) is not _FIELDS[name] for name, value in known.items()):
        raise BadRecord("a lease record has a field of another type")
    return _checked(known)


def _checked(fields: dict[str, Any]) -> Record:
    record = Record(**fields)
    if not (0 < len(record.holder) <= MAX_TEXT and max(len(record.address), len(record.successor)) <= MAX_TEXT):
        raise BadRecord("a lease record's holder, address or successor is empty or too long")
    if not (0 <= record.counter <= _MAX_COUNTER and 0 <= record.epoch <= _MAX_COUNTER):
        raise BadRecord("a lease record's counter or epoch is out of range")
    if not 0 < record.ttl_ms <= MAX_TTL_MS:
        raise BadRecord("a lease record's ttl_ms is out of range")
    return record
