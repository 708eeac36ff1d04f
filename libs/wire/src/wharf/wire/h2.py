"""Policy of an HTTP/2 server connection: which settings it opens with, and what silence and age mean.

Pure; time is an argument.
The mechanism is `_nghttp2.Session`; what the calls mean is `_grpc.Call`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from wharf.wire._grpc import Call, CallSettings, ServerSession
from wharf.wire._nghttp2 import Session
from wharf.wire.http import Headers, HttpHandler, HttpRequest, HttpResponse, Mount, MountedExchange, plain_error
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KEEPALIVE = b"wharf-ka"
DRAIN = b"wharf-dr"
PARTING_SECONDS = 0.25  # that a connection stays after its peer said GOAWAY and has no stream left

_MAX_CONCURRENT_STREAMS = 3
_INITIAL_WINDOW_SIZE = 4
_MAX_FRAME_SIZE = 5
_MAX_HEADER_LIST_SIZE = 6


def open_server_session(
    settings: CallSettings, limits: ConnectionLimits, peer: Peer, clock: Callable[[], float]
) -> ServerSession:
    """A session that has its SETTINGS and limits, ready to receive the client's preface."""
    session = ServerSession(
        True,
        settings,
        peer,
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
    session.clock = clock
    session.header_list_max = limits.header_list_max
    session.hold_max = limits.held_max
    session.unsent_max = limits.unsent_max
    session.set_frame_budget(limits.idle_frames_burst, limits.idle_frames_per_second)
    session.ping_interval_min = limits.ping_interval_min
    session.ping_strikes_max = limits.ping_strikes_max
    return session


def plain_responder(
    handler: HttpHandler, report: Callable[[HttpRequest, Exception], None], mount: Mount | None = None
) -> Callable[[Call], None]:
    """Answers requests that are no gRPC calls by the plain handler, or by the mount's."""

    def respond(call: Call) -> None:
        request = HttpRequest(call.method, call.path, tuple(call.headers), call.plain_body, call.peer)
        try:
            if mount is not None and request.target.startswith(mount.prefix):
                mount.handler(_Mounted(request, call))
                return
            response = handler(request)
        except Exception as error:
            report(request, error)
            response = plain_error(500)
        call.plain_response(response.status, response.headers, response.body)

    return respond


class _Mounted(MountedExchange):
    """`http.HttpExchange` on HTTP/2."""

    def __init__(self, request: HttpRequest, call: Call) -> None:
        super().__init__(request, call)
        self._call = call

    def _write_response(self, response: HttpResponse) -> None:
        self._call.plain_response(response.status, response.headers, response.body)

    def _write_head(self, status: int, headers: Headers) -> None:
        self._call.plain_open(status, headers)

    def _write(self, data: bytes) -> None:
        self._call.plain_send(data)

    def _write_end(self) -> None:
        self._call.plain_finish()


class Step(Enum):
    """What a look at the clock asks for."""

    PING = "ping"
    CLOSE_IDLE = "idle timeout"
    CLOSE_DEAD = "keepalive ping not answered"
    CLOSE_SETTINGS = "no SETTINGS in time"
    CLOSE_BLOCK = "header block not ended in time"


class Vitals:
    """Watches one connection's life signs; `look` is called every second or so."""

    __slots__ = ("_alive_at", "_block_since", "_bytes_in", "_idle_since", "_limits", "_opened_at", "_pinged_at")

    def __init__(self, limits: ConnectionLimits, now: float) -> None:
        self._limits = limits
        self._opened_at = self._alive_at = self._idle_since = now
        self._bytes_in = -1
        self._block_since: float | None = None
        self._pinged_at: float | None = None

    def look(self, session: Session, now: float) -> Step | None:
        """What to do now, or None. After PING the caller sends one."""
        limits = self._limits
        if session.bytes_in != self._bytes_in:
            self._bytes_in, self._alive_at, self._pinged_at = session.bytes_in, now, None
        if not session.settled and now - self._opened_at > limits.preface_timeout:
            return Step.CLOSE_SETTINGS
        self._block_since = (self._block_since or now) if session.block_open else None
        if self._block_since is not None and now - self._block_since > limits.block_timeout:
            return Step.CLOSE_BLOCK
        if session.streams:
            self._idle_since = now
        elif now - self._idle_since > limits.idle_timeout:
            return Step.CLOSE_IDLE
        if self._pinged_at is not None:
            return Step.CLOSE_DEAD if now - self._pinged_at > limits.keepalive_timeout else None
        if now - self._alive_at > limits.keepalive_interval:
            self._pinged_at = now
            return Step.PING
        return None
