"""Which connection a request takes, when one more is dialled, which are closed. Pure; time is an argument.

A proxy is to hold few connections: requests go to the HTTP/2 connection that has most of them and still has room, so
that the others empty and close. HTTP/1.1 carries one request a connection, and the one used last is used next. The
number of connections follows demand, up to `connections_max`; `dials_max` bounds the TLS handshakes at one time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

HTTP1, HTTP2 = 1, 2


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one pool; seconds and counts."""

    connections_max: int = 64  # HTTP/2; kube-apiserver allows 100 requests on each
    dials_max: int = 4  # HTTP/2 connections dialled at the same time
    http1_connections_max: int = 1024  # one request each, watches included
    pending_max: int = 1024  # requests waiting for a connection; beyond, the upstream is too slow for more
    connect_timeout: float = 5.0  # name, TCP, TLS and HTTP/2 settings together
    ping_interval: float = 30.0  # of silence, before an HTTP/2 peer is asked whether it lives
    ping_timeout: float = 15.0  # of silence after that, until it is given up
    idle_http1: float = 60.0  # below the keep-alive time of servers (kube-apiserver: 90 s), who close without a word
    idle_http2: float = 90.0  # all but one
    stall_timeout: float = 60.0  # TCP takes nothing: the upstream does not read at all
    close_timeout: float = 5.0  # for a closing connection to take the last bytes


class Slot(Protocol):
    """What is known of an open connection."""

    @property
    def version(self) -> int: ...

    @property
    def open_requests(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def idle_since(self) -> float | None:
        """Since when it has carried nothing; None while it carries something."""


SlotT = TypeVar("SlotT", bound=Slot)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool has and what is asked of it."""

    waiting: int  # requests without a connection
    dialing: int
    open: int  # connections that take requests, or could when they are less busy
    version: int  # what the upstream spoke last; 0: not known yet
    streams: int = 100  # requests that the newest HTTP/2 connection takes at the same time


def ranked(slots: Iterable[SlotT]) -> list[SlotT]:
    """Connections with room, in the reverse order of preference: the fullest is last, of idle ones the last used."""
    with_room = [slot for slot in slots if slot.capacity > 0]
    with_room.sort(key=lambda slot: (slot.open_requests, slot.idle_since or 0.0))
    return with_room


def dials_wanted(demand: Demand, limits: PoolLimits) -> int:
    """How many dials to start now.

    An HTTP/1.1 connection serves one waiting request, an HTTP/2 connection as many as the upstream allows. While the
    version is unknown, one dial finds it out.
    """
    if demand.version == HTTP1:
        needed, most = demand.waiting, limits.http1_connections_max - demand.open
    else:
        needed = math.ceil(demand.waiting / demand.streams) if demand.version == HTTP2 else int(demand.waiting > 0)
        most = min(limits.dials_max, limits.connections_max - demand.open)
    return max(0, min(needed, most) - demand.dialing)


def idle_to_close(slots: Iterable[SlotT], now: float, limits: PoolLimits) -> list[SlotT]:
    """Connections nobody needs any more; the last HTTP/2 one is kept, for the next request not to wait for a dial."""
    slots = list(slots)
    closing = [
        slot
        for slot in slots
        if slot.idle_since is not None
        and now - slot.idle_since >= (limits.idle_http1 if slot.version == HTTP1 else limits.idle_http2)
    ]
    kept_http2 = sum(slot.version == HTTP2 for slot in slots) - sum(slot.version == HTTP2 for slot in closing)
    if kept_http2 == 0:
        http2 = [slot for slot in closing if slot.version == HTTP2]
        newest = max(http2, key=lambda slot: slot.idle_since or 0.0, default=None)
        closing = [slot for slot in closing if slot is not newest]
    return closing


class Life(Enum):
    """What silence means."""

    FINE = "fine"
    ASK = "ask"  # send a ping
    DEAD = "dead"


class Silence:
    """Whether an HTTP/2 peer still lives, told by what it sends."""

    __slots__ = ("_heard_at", "_limits", "_pinged_at", "_seen")

    def __init__(self, limits: PoolLimits, now: float) -> None:
        self._limits = limits
        self._heard_at = now
        self._pinged_at: float | None = None
        self._seen = -1

    def look(self, bytes_in: int, now: float) -> Life:
        """What to do now. `bytes_in`: received on the connection up to now."""
        if bytes_in != self._seen:
            self._seen, self._heard_at, self._pinged_at = bytes_in, now, None
        if self._pinged_at is not None:
            return Life.DEAD if now - self._pinged_at >= self._limits.ping_timeout else Life.FINE
        if now - self._heard_at >= self._limits.ping_interval:
            self._pinged_at = now
            return Life.ASK
        return Life.FINE
