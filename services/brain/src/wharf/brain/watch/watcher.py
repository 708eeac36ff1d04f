"""One watcher: what it asked for and how far it has got. Pure.

    WAITING ──its revision comes──▶ LAGGING ──log read to the end──▶ SYNCED
       (starts in the future)          ▲                               │ stream full when events came
                                       └───────────────────────────────┘
    LAGGING ──compaction overtook it──▶ COMPACTED (told so; keeps its id until the client cancels it)

Invariant: every matching event below `next_revision` is on the stream, none at or above it; a SYNCED watcher's is the
hub's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

COMPACTED_TEXT = "etcdserver: mvcc: required revision has been compacted"
EMPTY_RANGE_TEXT = "mvcc: watcher range is empty"
DUPLICATE_ID_TEXT = "mvcc: duplicate watch ID provided on the WatchStream"


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """A WatchCreateRequest."""

    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    progress_notify: bool = False
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    watch_id: int = 0  # 0: the stream picks one
    fragment: bool = False


class Interest(NamedTuple):
    """What decides which bytes a watcher gets: watchers with equal interest share them."""

    start: bytes
    end: bytes | None  # first key not watched, None: no upper bound
    single: bool
    prev_kv: bool
    no_put: bool
    no_delete: bool

    def wants(self, kind: int, key: bytes) -> bool:
        if self.no_delete if kind else self.no_put:
            return False
        return self.start <= key and (self.end is None or key < self.end)


def interest_of(spec: WatchSpec) -> Interest | None:
    """The watched range, None when it is empty. An absent key is the smallest one, as in etcd."""
    start, end = spec.key or b"\0", spec.range_end
    flags = (spec.prev_kv, spec.no_put, spec.no_delete)
    if not end:
        return Interest(start, start + b"\0", True, *flags)
    if end == b"\0":
        return Interest(start, None, False, *flags)
    return Interest(start, end, False, *flags) if start < end else None


class State(Enum):
    SYNCED = "synced"
    WAITING = "waiting"
    LAGGING = "lagging"
    COMPACTED = "compacted"


class Outlet(Protocol):
    """The stream a watcher sends on."""

    def send(self, message: bytes) -> None: ...
    def writable(self) -> bool: ...


class Watcher:
    __slots__ = (
        "fragment",
        "interest",
        "next_revision",
        "outlet",
        "progress_notify",
        "quiet",
        "start_revision",
        "state",
        "watch_id",
    )

    def __init__(self, watch_id: int, spec: WatchSpec, interest: Interest, outlet: Outlet, revision: int) -> None:
        """A watcher made when the store is at `revision`."""
        self.watch_id = watch_id
        self.interest = interest
        self.outlet = outlet
        self.fragment = spec.fragment
        self.progress_notify = spec.progress_notify
        self.start_revision = spec.start_revision
        self.next_revision = spec.start_revision or revision + 1
        self.quiet = True  # no event since the last periodic progress
        if self.next_revision <= revision:
            self.state = State.LAGGING
        elif self.next_revision == revision + 1:
            self.state = State.SYNCED
        else:
            self.state = State.WAITING

    def may_report(self, revision: int) -> bool:
        """Whether progress up to `revision` is true: all events are out, and the start is not in the future."""
        return self.state is State.SYNCED and self.start_revision <= revision
