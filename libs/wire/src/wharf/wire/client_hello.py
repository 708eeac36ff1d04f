"""Which server a TLS client asks for, read from its first message before the handshake begins. Pure.

OpenSSL lets a callback switch the certificate by name, but not whether a client certificate is asked for: that is fixed
when the handshake starts. So the name is read first, from as many records as the message is spread over.
Source: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RECORD_HEAD = 5
HELLO_MAX = 64 * 1024  # bytes of all its records: longest names, post-quantum keys and padding need a fraction of it
_RECORDS_MAX = 128  # that it is spread over: the smallest record size a client can agree on is 512
_RECORD_BODY_MAX = 2**14
_MESSAGE_HEAD = 4
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 0x16, 1, 0, 0
_VERSION_AND_RANDOM = 2 + 32


class BadHello(Exception):
    """The bytes are no ClientHello, or one beyond the bounds; the text says which."""


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


def hello_length(data: bytes) -> int:
    """How many bytes from a client are needed, as far as `data` tells, to hold its whole first message.

    At most `len(data)`: the message is whole. BadHello when `data` begins no ClientHello or one beyond the bounds.
    """
    message = b""
    at = records = 0
    while (missing := _message_length(message) - len(message)) > 0:
        head = data[at : at + RECORD_HEAD]
        size = int.from_bytes(head[3:], "big") if len(head) == RECORD_HEAD else min(missing, _RECORD_BODY_MAX)
        end = at + RECORD_HEAD + size
        if head and head[0] != _HANDSHAKE:
            raise BadHello("the first record is no handshake")
        if not 0 < size <= _RECORD_BODY_MAX:
            raise BadHello(f"a record of the ClientHello holds {size} bytes")
        if records == _RECORDS_MAX:
            raise BadHello(f"the ClientHello is spread over more than {_RECORDS_MAX} records")
        if end > HELLO_MAX or at + RECORD_HEAD + missing > HELLO_MAX:
            raise BadHello(f"the ClientHello is longer than {HELLO_MAX} bytes")
        if end > len(data):
            return max(end, at + RECORD_HEAD + missing)
        message += data[at + RECORD_HEAD : end]
        at, records = end, records + 1
        if message[0] != _CLIENT_HELLO:
            raise BadHello("the first message is no ClientHello")
    return at


def parse_client_hello(data: bytes) -> ClientHello:
    """The hello in whole records. BadHello when it is none."""
    try:
        message = _Cursor(_join_records(data))
        if message.number(1) != _CLIENT_HELLO:
            raise BadHello("the first message is no ClientHello")
        hello = _Cursor(message.field(3))
        hello.take(_VERSION_AND_RANDOM)
        hello.field(1)  # session
        hello.field(2)  # cipher suites
        hello.field(1)  # compression
        extensions = hello.field(2) if hello.left else b""
        return ClientHello(
            next((_host_name(data) for kind, data in _extensions(extensions) if kind == _SERVER_NAME), None)
        )
    except (IndexError, UnicodeDecodeError) as error:
        raise BadHello("the ClientHello is malformed") from error


def _message_length(message: bytes) -> int:
    """Bytes of the message that begins so, its head included."""
    if len(message) < _MESSAGE_HEAD:
        return _MESSAGE_HEAD
    return _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")


def _join_records(data: bytes) -> bytes:
    """The first message, its records joined."""
    records = _Cursor(data)
    message = b""
    while len(message) < _message_length(message):
        if records.number(1) != _HANDSHAKE:
            raise BadHello("the first record is no handshake")
        records.take(2)
        part = records.field(2)
        if not part:
            raise BadHello("a record of the ClientHello is empty")
        message += part
    return message


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
