"""A server session and a client session back to back: bytes go from one to the other by hand, no socket, no loop.

`Pair` is the tests' main tool: what the client sees is checked on the far side as events of wharf.wire.events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wharf.wire import grpc
from wharf.wire._grpc import CallSettings, Route, ServerSession
from wharf.wire._nghttp2 import EventSession
from wharf.wire.events import Data, Event, Head, Reset, Trailers
from wharf.wire.h2 import open_server_session, plain_responder
from wharf.wire.http import HttpHandler, answer_unserved
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Kind, Method, Peer, RpcLimits

UNARY = "/test.Service/Unary"
STREAM = "/test.Service/Stream"
INITIAL_WINDOW_SIZE = 4


class FakeClock:
    """Loop time, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """What a client saw of one stream."""

    def __init__(self, events: Sequence[Event]) -> None:
        heads = [event for event in events if isinstance(event, Head)]
        trailers = [event for event in events if isinstance(event, Trailers)]
        resets = [event for event in events if isinstance(event, Reset)]
        self.headers = dict(heads[0].headers) if heads else {}
        self.trailers = dict(trailers[0].headers) if trailers else {}
        self.body = b"".join(event.data for event in events if isinstance(event, Data))
        self.ended = any(isinstance(event, Data) and event.end for event in events)
        self.error_code = resets[0].error_code if resets else None

    @property
    def code(self) -> int:
        """The gRPC status."""
        found = self.trailers.get(b"grpc-status", self.headers.get(b"grpc-status"))
        assert found is not None, (self.headers, self.trailers, self.error_code)
        return int(found)

    @property
    def text(self) -> str:
        """The gRPC status text."""
        return grpc.decode_message(self.trailers.get(b"grpc-message", self.headers.get(b"grpc-message", b"")))

    @property
    def messages(self) -> list[bytes]:
        """The response messages, unpacked."""
        return [grpc.decompress(data, 1 << 30) if packed else data for packed, data in grpc.unframe(self.body)]


class Pair:
    """One connection without a network."""

    def __init__(
        self,
        unary: Callable[[bytes, Any], None] | None = None,
        stream: Callable[[Any], None] | None = None,
        *,
        methods: Mapping[str, Method] | None = None,
        limits: ConnectionLimits | None = None,
        rpc_limits: RpcLimits | None = None,
        http: HttpHandler = answer_unserved,
        client_window: int = 65535,
        connection_window: int = 65535,
    ) -> None:
        self.clock = FakeClock()
        self.limits = limits or ConnectionLimits()
        self.routes = {
            UNARY: Route(UNARY, True, unary or (lambda message, call: call.reply(message))),
            STREAM: Route(STREAM, False, stream or (lambda call: None)),
        }
        for path, method in (methods or {}).items():
            self.routes[path] = Route(path, method.kind is Kind.UNARY, method.handler)
        self.settings = CallSettings(
            {path.encode(): route for path, route in self.routes.items()}, rpc_limits or RpcLimits(), self.limits
        )
        self.failures: list[Exception] = []
        self.settings.on_plain = plain_responder(http, lambda _, error: self.failures.append(error))
        self.server: ServerSession = open_server_session(self.settings, self.limits, Peer("test:1"), self.clock)
        self.written: list[bytes] = []
        self.server.write = self.written.append
        self.server.paused = False
        self.client = EventSession(False, settings=((INITIAL_WINDOW_SIZE, client_window),), window=connection_window)
        self.events: list[Event] = []

    def exchange(self) -> None:
        """Carry bytes both ways until both sides are silent."""
        while True:
            said = self.client.pull(1 << 20)
            if said is not None:
                self.server.receive(said)
            self.server.pump()
            answered = b"".join(self.written)
            self.written.clear()
            if answered:
                self.client.receive(answered)
            self.events.extend(self.client.take_events())
            if said is None and not answered:
                return

    def headers(self, path: str, *extra: tuple[bytes, bytes], method: bytes = b"POST") -> list[tuple[bytes, bytes]]:
        """The request headers of a gRPC call."""
        return [
            (b":method", method),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"test"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *extra,
        ]

    def call(self, path: str, *messages: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
        """One whole call with these request messages."""
        body = b"".join(grpc.frame(message) for message in messages)
        return self.call_raw(self.headers(path, *extra), body)

    def call_raw(self, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        """One whole request of any kind."""
        stream_id = self.client.request(headers, body)
        self.exchange()
        return self.answer(stream_id)

    def open(self, path: str, *extra: tuple[bytes, bytes]) -> int:
        """Begin a call; its request stays open."""
        stream_id = self.client.request(self.headers(path, *extra), end=False)
        self.exchange()
        return stream_id

    def send(self, stream_id: int, *messages: bytes, end: bool = False) -> None:
        """Send request messages on an open call."""
        self.client.send(stream_id, b"".join(grpc.frame(message) for message in messages), end)
        self.exchange()

    def answer(self, stream_id: int) -> Answer:
        """What came back on a stream so far."""
        return Answer([event for event in self.events if event.stream_id == stream_id])


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame, legal or not."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload
