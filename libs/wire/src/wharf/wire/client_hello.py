"""Which server a TLS client asks for, read from its first record before the handshake begins. Pure.

OpenSSL lets a callback switch the certificate by name, but not whether a client certificate is asked for: that is fixed
when the handshake starts. So the name is read first. Source: RFC 8446 §4.1.2, RFC 6066 §3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RECORD_HEAD = 5
RECORD_MAX = RECORD_HEAD + 2**14
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 0x16, 1, 0, 0
_VERSION_AND_RANDOM = 2 + 32


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What matters of a client's first message."""

    server_name: str | None  # as sent


class _Cursor:
    """Reads length-prefixed fields; IndexError where the data ends too early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise IndexError
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def field(self, size: int) -> bytes:
        return self.take(self.number(size))


def record_length(data: bytes) -> int:
    """Bytes of the record that `data` begins with, its head included; RECORD_HEAD as long as that is not known."""
    return RECORD_HEAD + int.from_bytes(data[3:5], "big") if len(data) >= RECORD_HEAD else RECORD_HEAD


def parse_client_hello(record: bytes) -> ClientHello | None:
    """The hello in one whole record; None when it is none, or spread over several records."""
    try:
        outer = _Cursor(record)
        if outer.number(1) != _HANDSHAKE:
            return None
        outer.take(2)
        message = _Cursor(outer.field(2))
        if message.number(1) != _CLIENT_HELLO:
            return None
        hello = _Cursor(message.field(3))
        hello.take(_VERSION_AND_RANDOM)
        hello.field(1)  # session
        hello.field(2)  # cipher suites
        hello.field(1)  # compression
        extensions = hello.field(2) if hello.left else b""
        return ClientHello(
            next((_host_name(data) for kind, data in _extensions(extensions) if kind == _SERVER_NAME), None)
        )
    except (IndexError, UnicodeDecodeError):
        return None


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    cursor = _Cursor(data)
    while cursor.left:
        yield cursor.number(2), cursor.field(2)


def _host_name(data: bytes) -> str | None:
    names = _Cursor(_Cursor(data).field(2))
    while names.left:
        kind, name = names.number(1), names.field(2)
        if kind == _HOST_NAME:
            return name.decode("ascii")
    return None
