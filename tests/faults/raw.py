"""HTTP/2 by hand over a socket: for clients that no library would let us be."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from harness.store import Store
from wharf.wire import grpc
from wharf.wire.h2 import PREFACE
from wire.pair import raw_frame

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CLOSE_SECONDS = 40.0  # the server's own timeouts are 10 s; the rest is for a busy machine
_PIECE = 1 << 16


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def literal(name: bytes, value: bytes) -> bytes:
    """A header field as HPACK literal, not indexed."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 127:
        return bytes((number,))
    number -= 127
    found = b"\x7f"
    while number > 127:
        found += bytes((number & 127 | 128,))
        number >>= 7
    return found + bytes((number,))


def headers(path: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The header block of a gRPC request."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *extra,
    ]
    return b"".join(literal(name, value) for name, value in fields)


class Raw:
    """One connection."""

    def __init__(self, store: Store) -> None:
        self.socket = socket.create_connection(("127.0.0.1", store.port), CLOSE_SECONDS)
        self._unread = b""

    def open(self, settings: bytes = b"") -> Self:
        """Say what a client says first."""
        self.send(PREFACE + raw_frame(SETTINGS, 0, 0, settings))
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def call(self, stream_id: int, path: str, message: bytes) -> None:
        """A whole unary request."""
        body = grpc.frame(message)
        head = raw_frame(HEADERS, END_HEADERS, stream_id, headers(path))
        self.send(head + raw_frame(DATA, END_STREAM, stream_id, body))

    def frame(self) -> Frame | None:
        """The next frame; None when the server has closed."""
        head = self._take(9)
        if head is None:
            return None
        payload = self._take(int.from_bytes(head[:3], "big"))
        return None if payload is None else Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    def _take(self, count: int) -> bytes | None:
        while len(self._unread) < count:
            try:
                got = self.socket.recv(_PIECE)
            except ConnectionError:
                return None
            if not got:
                return None
            self._unread += got
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def goaway(self) -> int | None:
        """Read until the server closes; the error code it gave, if it could."""
        code = None
        while (frame := self.frame()) is not None:
            if frame.kind == GOAWAY:
                code = int.from_bytes(frame.payload[4:8], "big")
        return code

    def rest(self) -> bytes:
        """Everything until the server closes."""
        found = self._unread
        with contextlib.suppress(ConnectionError):
            while got := self.socket.recv(_PIECE):
                found += got
        return found

    def flood(self, make: Callable[[int], bytes], most: int) -> int:
        """Send make(0), make(1)… until the server has had enough; how many it took before it closed."""
        self.socket.settimeout(CLOSE_SECONDS)
        for count in range(most):
            try:
                self.socket.sendall(make(count))
                if self._is_refused():
                    return count
            except ConnectionError:
                return count
        raise AssertionError(f"{most} were taken")

    def _is_refused(self) -> bool:
        """Take in what was said so far; whether a GOAWAY was among it or the connection is over."""
        self.socket.setblocking(False)
        try:
            while True:
                got = self.socket.recv(_PIECE)
                self._unread += got
                if not got:
                    return True
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(CLOSE_SECONDS)
        while len(self._unread) >= 9:
            size = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < size:
                break
            if self._unread[3] == GOAWAY:
                return True
            self._unread = self._unread[size:]
        return False

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
