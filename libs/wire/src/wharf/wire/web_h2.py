"""HTTP/2 connections for proxies: which settings and limits they open with.

Pure; time is an argument. The mechanism is `_http`; what exchanges and requests promise is web.py.
"""

from __future__ import annotations

from collections.abc import Callable

from wharf.wire._http import HeaderFilter, HttpClientSession, HttpClientStream, HttpServerSession, HttpServerStream
from wharf.wire.limits import ClientLimits, ConnectionLimits
from wharf.wire.web import Refusal, ServedConnection, plain_refusal

__all__ = [
    "HeaderFilter",
    "HttpClientSession",
    "HttpClientStream",
    "HttpServerSession",
    "HttpServerStream",
    "open_client_session",
    "open_server_session",
]

_ENABLE_PUSH = 2
_MAX_CONCURRENT_STREAMS = 3
_INITIAL_WINDOW_SIZE = 4
_MAX_FRAME_SIZE = 5
_MAX_HEADER_LIST_SIZE = 6


def open_server_session(
    handler: Callable[[HttpServerStream], None],
    connection: ServedConnection,
    limits: ConnectionLimits,
    clock: Callable[[], float],
    refusal: Refusal = plain_refusal,
) -> HttpServerSession:
    """A session ready for a client's preface; `handler` gets each exchange from `pump`, once its head is whole."""
    session = HttpServerSession(
        True,
        handler,
        connection,
        settings=(
            (_MAX_CONCURRENT_STREAMS, limits.concurrent_streams),
            (_INITIAL_WINDOW_SIZE, limits.stream_window),
            (_MAX_FRAME_SIZE, limits.frame_size_max),
            (_MAX_HEADER_LIST_SIZE, limits.header_list_max),
        ),
        window=limits.connection_window,
        resets_burst=limits.resets_burst,
        resets_per_second=limits.resets_per_second,
        continuations_max=limits.continuations_max,
        acks_max=limits.acks_max,
    )
    session.refusal = refusal
    session.hold_max = limits.held_max
    session.unsent_max = limits.unsent_max
    session.ping_interval_min = limits.ping_interval_min
    session.ping_strikes_max = limits.ping_strikes_max
    _limit(session, limits, clock)
    return session


def open_client_session(limits: ClientLimits, clock: Callable[[], float]) -> HttpClientSession:
    """A session whose preface and SETTINGS wait to be pumped; `capacity` is 0 until the peer's SETTINGS came."""
    session = HttpClientSession(
        False,
        settings=(
            (_ENABLE_PUSH, 0),
            (_INITIAL_WINDOW_SIZE, limits.stream_window),
            (_MAX_FRAME_SIZE, limits.frame_size_max),
            (_MAX_HEADER_LIST_SIZE, limits.header_list_max),
        ),
        window=limits.connection_window,
        resets_burst=limits.resets_burst,
        resets_per_second=limits.resets_per_second,
        continuations_max=limits.continuations_max,
        acks_max=limits.acks_max,
    )
    session.hold_max = limits.held_max
    session.streams_max = limits.streams_max
    _limit(session, limits, clock)
    return session


def _limit(
    session: HttpServerSession | HttpClientSession, limits: ConnectionLimits | ClientLimits, clock: Callable[[], float]
) -> None:
    session.clock = clock
    session.header_list_max = limits.header_list_max
    session.high_water = limits.stream_high
    session.low_water = limits.stream_low
    session.set_frame_budget(limits.idle_frames_burst, limits.idle_frames_per_second)
