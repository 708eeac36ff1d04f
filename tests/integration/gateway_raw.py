"""A client of the gateway that no library would let us be: bytes by hand, over TLS, HTTP/2 or HTTP/1.1."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from faults.raw import literal
from harness.daemon import LOOPBACK
from wharf.wire.h2 import PREFACE
from wire.pair import raw_frame
from wire.pki import Files

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CLOSE_SECONDS = 40.0  # the server's own timeouts are 10 s; the rest is for a busy machine
_PIECE = 1 << 16
Field = tuple[bytes, bytes]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def block(fields: Iterable[Field]) -> bytes:
    """A header block without compression."""
    return b"".join(literal(name, value) for name, value in fields)


def pseudo(
    path: bytes = b"/api/v1/pods", method: bytes = b"GET", authority: bytes = b"localhost", scheme: bytes = b"https"
) -> list[Field]:
    """What every request begins with."""
    return [(b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", authority)]


class Raw:
    """One connection, `alpn` h2 or http/1.1; with a client certificate when one is given."""

    def __init__(
        self, port: int, ca_file: str, alpn: str = "h2", who: Files | None = None, name: str = "localhost"
    ) -> None:
        context = ssl.create_default_context(cafile=ca_file)
        context.set_alpn_protocols([alpn])
        if who is not None:
            context.load_cert_chain(who.cert, who.key)
        plain = socket.create_connection((LOOPBACK, port), CLOSE_SECONDS)
        self.socket = context.wrap_socket(plain, server_hostname=name)
        self._unread = b""

    def open(self, settings: bytes = b"") -> Self:
        """Say what a client of HTTP/2 says first."""
        self.send(PREFACE + raw_frame(SETTINGS, 0, 0, settings))
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frame(self) -> Frame | None:
        """The next frame; None when the server has closed."""
        head = self._take(9)
        if head is None:
            return None
        payload = self._take(int.from_bytes(head[:3], "big"))
        return None if payload is None else Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)

    def goaway(self) -> int | None:
        """Read until the server closes; the error code it gave, if it could."""
        code = None
        while (frame := self.frame()) is not None:
            if frame.kind == GOAWAY:
                code = int.from_bytes(frame.payload[4:8], "big")
        return code

    def outcome(self, stream_id: int) -> str:
        """How a stream ended: "reset 1", the code of its Status, "200" for another body, "no body", or "closed"."""
        body = b""
        while (frame := self.frame()) is not None:
            if frame.stream_id != stream_id:
                continue
            if frame.kind == RST_STREAM:
                return f"reset {int.from_bytes(frame.payload, 'big')}"
            if frame.kind == DATA:
                body += frame.payload
            if frame.kind in (DATA, HEADERS) and frame.flags & END_STREAM:
                told: Any = json.loads(body or b"null")
                return "no body" if told is None else str(told.get("code", 200))
        return "closed"

    def rest(self) -> bytes:
        """Everything until the server closes."""
        found, self._unread = self._unread, b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while got := self.socket.recv(_PIECE):
                found += got
        return found

    def flood(self, make: Callable[[int], bytes], most: int) -> None:
        """Send make(0), make(1)… until the server has had enough."""
        for count in range(most):
            try:
                self.send(make(count))
                if self._refused():
                    return
            except (ConnectionError, ssl.SSLError):
                return
        # All of it may still lie in buffers, because the server has not been running meanwhile.
        try:
            self._unread = self.rest()
        except TimeoutError:
            raise AssertionError(f"{most} pieces were taken") from None

    def _refused(self) -> bool:
        """Take in what was said so far; whether a GOAWAY was among it or the connection is over."""
        self.socket.setblocking(False)
        try:
            while got := self.socket.recv(_PIECE):
                self._unread += got
        except (BlockingIOError, ssl.SSLWantReadError):
            return self._goaway_unread()
        finally:
            self.socket.settimeout(CLOSE_SECONDS)
        return True

    def _goaway_unread(self) -> bool:
        at = 0
        while len(self._unread) - at >= 9:
            if self._unread[at + 3] == GOAWAY:
                return True
            at += 9 + int.from_bytes(self._unread[at : at + 3], "big")
        return False

    def _take(self, count: int) -> bytes | None:
        while len(self._unread) < count:
            try:
                got = self.socket.recv(_PIECE)
            except (ConnectionError, ssl.SSLError):
                return None
            if not got:
                return None
            self._unread += got
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
