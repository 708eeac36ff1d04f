"""What a watch promises, held against the log: ordered, unique, atomic, reliable, resumable, previous values, progress.

Pure. A watch is judged as its client has it: over all the streams it needed, each resumed where the one before had come
to. Invariant judged: after any answer, what the client has is exactly the log up to some revision, and the client knows
which (`seen`).
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from faults.recorded.record import KV, Entry, Event, Request


@dataclass(frozen=True, slots=True)
class Delivery:
    """One response as it concerns one watch."""

    revision: int  # of its header
    events: Sequence[Event] = ()
    created: bool = False
    canceled: bool = False
    compacted: int = 0  # the compact revision a cancellation names
    reason: str = ""
    at: int = 0  # nanoseconds of the clients' clock, when it was there

    @property
    def progress(self) -> bool:
        return not (self.events or self.created or self.canceled)


@dataclass(slots=True)
class Segment:
    """The life of a watch on one stream."""

    start: int  # what was asked for; 0: from now on
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Truth:
    """The log, with what each change replaced."""

    entries: Sequence[Entry]
    revision: int  # the last one

    def between(self, after: int, last: int, key: str, end: str) -> Iterator[Entry]:
        """Entries of (after, last] with what concerns [key, end) in them."""
        first = bisect_right(self.entries, after, key=_revision)
        for entry in itertools.islice(self.entries, first, bisect_right(self.entries, last, key=_revision)):
            events = tuple(event for event in entry.events if concerns(event, key, end))
            if events:
                yield Entry(entry.revision, events)


def _revision(entry: Entry) -> int:
    return entry.revision


def concerns(event: Event, key: str, end: str) -> bool:
    return key <= event.kv.key < end if end else event.kv.key == key


def truth_of(log: Sequence[Entry], live: Sequence[KV] = (), revision: int = 1) -> Truth:
    """The truth out of a log that was read after the fact; previous values come from replaying it, not from the log."""
    now = {kv.key: kv for kv in live}
    entries = []
    for entry in log:
        events = []
        for event in entry.events:
            events.append(replace(event, prev=now.pop(event.kv.key, None)))
            if event.type == "put":
                now[event.kv.key] = event.kv
        entries.append(Entry(entry.revision, tuple(events)))
    return Truth(entries, entries[-1].revision if entries else revision)


@dataclass(slots=True)
class _Judge:
    truth: Truth
    key: str
    end: str
    compacted: int  # up to here the test has compacted
    seen: int = 0
    header: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, rule: str, what: str) -> None:
        self.faults.append(f"{rule}: {what}")

    def segment(self, segment: Segment) -> None:
        self.header = 0
        if segment.start:
            if self.seen and segment.start > self.seen + 1:
                self.fault("recorder", f"resumed at {segment.start}, having seen {self.seen}")
            self.seen = segment.start - 1
        for number, delivery in enumerate(segment.deliveries):
            if delivery.created != (number == 0):
                self.fault("created", f"answer {number} of a stream is {delivery}")
            self.answer(delivery, segment.start)

    def answer(self, delivery: Delivery, start: int) -> None:
        if delivery.revision < self.header and not delivery.canceled:
            self.fault("header", f"goes back from {self.header} to {delivery.revision}")
        if delivery.created:  # its header tells where the store is, the headers of what follows where this watch is
            self.seen = self.seen if start else delivery.revision
        else:
            self.header = max(self.header, delivery.revision)
        if delivery.canceled:
            if not delivery.compacted or delivery.compacted > self.compacted or start >= delivery.compacted:
                self.fault("canceled", f"a watch from {start}, with compaction at {self.compacted}: {delivery}")
        elif delivery.events:
            self.events(delivery)
        elif delivery.progress:
            self.progress(delivery, start)

    def events(self, delivery: Delivery) -> None:
        got = [event.kv.mod for event in delivery.events]
        first, last = got[0], got[-1]
        if got != sorted(got):
            self.fault("ordered", f"revisions {got} in one answer")
        if first == self.seen:
            self.fault("atomic", f"revision {first} comes in two answers, or twice")
        elif first < self.seen:
            self.fault("unique", f"revision {first} comes when {self.seen} has been seen")
        if delivery.revision < last:
            self.fault("header", f"revision {delivery.revision} with events of {last}")
        due = [event for entry in self.truth.between(self.seen, last, self.key, self.end) for event in entry.events]
        self.compare(due, list(delivery.events))
        self.seen = max(self.seen, last)

    def compare(self, due: list[Event], got: list[Event]) -> None:
        plain_due, plain_got = ([replace(event, prev=None) for event in events] for events in (due, got))
        if plain_due != plain_got:
            lacking = [event for event in plain_due if event not in plain_got]
            beyond = [event for event in plain_got if event not in plain_due]
            self.fault("reliable", f"after {self.seen}: lacks {lacking}, has {beyond} beyond that, of {len(due)} due")
            return
        for expected, event in zip(due, got, strict=True):
            kept = event.prev is None and event.kv.mod <= self.compacted  # what it replaced may be compacted away
            if event.prev != expected.prev and not kept:
                self.fault("prev_kv", f"{event}, and before it was {expected.prev}")

    def progress(self, delivery: Delivery, start: int) -> None:
        if start and delivery.revision < start - 1:
            self.fault("progress", f"at {delivery.revision} for a watch from {start}")
        owed = list(self.truth.between(self.seen, delivery.revision, self.key, self.end))
        if owed:
            self.fault("progress", f"at {delivery.revision}, when {self.seen} was seen and {owed[0]} was not")
        if delivery.revision > self.truth.revision:
            self.fault("progress", f"at {delivery.revision}; the log ends at {self.truth.revision}")
        self.seen = max(self.seen, delivery.revision)

    def ending(self) -> None:
        owed = list(self.truth.between(self.seen, self.truth.revision, self.key, self.end))
        if owed:
            self.fault("reliable", f"{len(owed)} revisions after {self.seen} never came, the first is {owed[0]}")


def judge_watch(
    segments: Sequence[Segment], truth: Truth, key: str, end: str, *, compacted: int = 0, complete: bool = True
) -> list[str]:
    """What is wrong with a watch of [key, end); `complete`: it was given the time to come to the end of the log."""
    judge = _Judge(truth, key, end, compacted)
    for segment in segments:
        judge.segment(segment)
    if complete:
        judge.ending()
    return judge.faults


def judge_order(requests: Iterable[Request], deliveries: Iterable[Delivery]) -> list[str]:
    """A revision that a watch has told of on any node is in every answer to what is asked of any node afterwards."""
    told = sorted((one.at, one.revision) for one in deliveries)
    times = [at for at, _ in told]
    newest = list(itertools.accumulate((revision for _, revision in told), max))
    faults = []
    for request in requests:
        before = bisect_left(times, request.called)
        if request.answer is None or request.serializable or not before:
            continue
        if request.answer.revision < newest[before - 1]:
            faults.append(f"order: a watch had told of revision {newest[before - 1]} before this was asked: {request}")
    return faults
