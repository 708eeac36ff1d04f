"""The text forms of gRPC over HTTP/2: timeouts, percent-encoding, binary metadata, message framing. Pure.

The compiled hot path uses these for what is rare (an error text, a timeout); tests use them to build and read frames.
Source: gRPC over HTTP/2.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator, Sequence

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT_DIGITS_MAX = 8
_PRINTABLE = frozenset(range(0x20, 0x7F)) - {ord("%")}
_PREFIX = 5
_RESERVED = (b":", b"grpc-")
_RESERVED_EXACT = frozenset(
    (b"content-type", b"te", b"user-agent", b"connection", b"content-length", b"host", b"transfer-encoding")
)


class BadTimeout(ValueError):
    """A grpc-timeout value outside of the grammar."""


class MessageTooLarge(ValueError):
    """A compressed message that unpacks to more than allowed."""


def parse_timeout(value: bytes) -> float:
    """Seconds in a `grpc-timeout` value: b"250m" → 0.25.

    One to eight digits and a unit of H M S m u n; BadTimeout otherwise.
    Source: gRPC over HTTP/2, Timeout.
    """
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > _TIMEOUT_DIGITS_MAX or unit not in _UNITS:
        raise BadTimeout(f"malformed grpc-timeout: {value.decode('latin-1')}")
    return int(digits) * _UNITS[unit]


def encode_timeout(seconds: float) -> bytes:
    """The shortest exact-enough `grpc-timeout`: 0.25 → b"250m"; rounded up: never earlier than asked."""
    for unit, size in ((b"n", 1e-9), (b"u", 1e-6), (b"m", 1e-3), (b"S", 1.0), (b"M", 60.0), (b"H", 3600.0)):
        count = -int(-max(seconds, 0.0) // size)
        if count < 10**_TIMEOUT_DIGITS_MAX:
            return b"%d%s" % (count, unit)
    return b"99999999H"


def encode_message(text: str) -> bytes:
    """A status text as `grpc-message`: UTF-8, everything but printable ASCII (and `%`) percent-encoded."""
    raw = text.encode("utf-8", "replace")
    if all(byte in _PRINTABLE for byte in raw):
        return raw
    return b"".join(bytes((byte,)) if byte in _PRINTABLE else b"%%%02X" % byte for byte in raw)


def decode_message(value: bytes) -> str:
    """The text of a `grpc-message`; broken escapes are kept as they came, as the protocol asks."""
    out = bytearray()
    at = 0
    while at < len(value):
        pair = value[at + 1 : at + 3]
        if value[at] == ord("%") and len(pair) == 2 and _is_hex(pair):
            out.append(int(pair, 16))
            at += 3
        else:
            out.append(value[at])
            at += 1
    return out.decode("utf-8", "replace")


def _is_hex(pair: bytes) -> bool:
    return all(byte in b"0123456789abcdefABCDEF" for byte in pair)


def encode_metadata(metadata: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Metadata as headers: `-bin` values in base64 without padding. ValueError for a name the protocol owns."""
    encoded = []
    for name, value in metadata:
        if name.startswith(_RESERVED) or name in _RESERVED_EXACT:
            raise ValueError(f"metadata name {name!r} is reserved")
        encoded.append((name, base64.b64encode(value).rstrip(b"=") if name.endswith(b"-bin") else value))
    return encoded


def decode_metadata(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers as metadata: reserved names left out; `-bin` decoded, one entry per comma-joined value."""
    decoded: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.startswith(_RESERVED) or name in (b"content-type", b"te"):
            continue
        if name.endswith(b"-bin"):
            decoded.extend((name, _unpadded(part)) for part in value.split(b","))
        else:
            decoded.append((name, value))
    return decoded


def _unpadded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value.strip().rstrip(b"=") + b"==")
    except binascii.Error:
        return b""


def frame(message: bytes, compressed: bool = False) -> bytes:
    """One length-prefixed message."""
    return (b"\x01" if compressed else b"\x00") + len(message).to_bytes(4, "big") + message


def unframe(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """The (compressed, message) pairs of whole frames; ValueError when the data stops inside one."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + _PREFIX], "big")
        end = at + _PREFIX + length
        if end > len(data) or at + _PREFIX > len(data):
            raise ValueError("the data ends inside a message")
        yield data[at] == 1, data[at + _PREFIX : end]
        at = end


def compress(message: bytes) -> bytes:
    """gzip with the cheapest level: the wire is faster than better compression."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(message) + packer.flush()


def decompress(message: bytes, limit: int) -> bytes:
    """gunzip to at most `limit` bytes: MessageTooLarge beyond, ValueError when it is no gzip."""
    try:
        unpacker = zlib.decompressobj(31)
        data = unpacker.decompress(message, limit + 1)
    except zlib.error as error:
        raise ValueError(f"grpc: failed to decompress the received message: {error}") from error
    if len(data) > limit:
        raise MessageTooLarge(f"grpc: received message after decompression larger than max {limit}")
    if not unpacker.eof:
        raise ValueError("grpc: failed to decompress the received message: unexpected EOF")
    return data
