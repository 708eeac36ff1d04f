"""Bodies of HTTP/1.1 messages as they come in: by length, chunked, or up to the end of the connection.

A reader takes what belongs to the body out of the bytes at hand and never one byte more, so that whatever follows (the
next request, a tunnel) stays where it is.

Pure. Invariant: a reader holds no data; what chunk extensions and trailers may cost is bounded.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Protocol

from wharf.wire.h1_head import Malformed, parse_trailers
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Header

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?")
_CHUNK_LINE_MAX = 1024
_CHUNK_EXCUSED = 16  # bytes a size line may take without counting as overhead
_DATA_EXCUSES = 2  # and this many for each byte the chunk carries
_CRLF = b"\r\n"


class BodyReader(Protocol):
    """Finds the body in a stream of bytes."""

    done: bool  # the whole body was read
    trailers: list[Header]

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        """The next piece of the body that begins at `at`, and where to go on.

        No piece and no progress: more bytes are needed, or it is `done`. Malformed when it is no body.
        """

    def read_eof(self) -> bool:
        """The connection ended here: whether the body is whole."""


class NoBody:
    """There is none."""

    done = True
    trailers: list[Header] = []  # noqa: RUF012  # nobody adds to it

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        return b"", at

    def read_eof(self) -> bool:
        return True


class LengthBody:
    """So many bytes."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = not length
        self.trailers: list[Header] = []

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        piece = data[at : at + self.left]
        self.left -= len(piece)
        self.done = not self.left
        return piece, at + len(piece)

    def read_eof(self) -> bool:
        return self.done


class CloseBody:
    """Everything up to the end of the connection."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: list[Header] = []

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        return data[at:], len(data)

    def read_eof(self) -> bool:
        self.done = True
        return True


class ChunkedBody:
    """Chunks, their end, trailers."""

    def __init__(self, limits: Http1Limits) -> None:
        self.done = False
        self.trailers: list[Header] = []
        self._limits = limits
        self._left = 0  # of the present chunk
        self._in_chunk = False  # its CRLF is still to come
        self._in_trailers = False
        self._overhead = 0

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        while not self.done:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                return piece, at + len(piece)
            if self._in_trailers:
                end = self._read_trailers(data, at)
            elif self._in_chunk:
                end = self._read_chunk_end(data, at)
            else:
                end = self._read_size(data, at)
            if end < 0:
                break
            at = end
        return b"", at

    def read_eof(self) -> bool:
        return self.done

    def _read_size(self, data: bytes, at: int) -> int:
        end = data.find(_CRLF, at, at + _CHUNK_LINE_MAX)
        if end < 0:
            if len(data) - at >= _CHUNK_LINE_MAX or data.find(b"\n", at) >= 0:
                raise Malformed(HTTPStatus.BAD_REQUEST, "malformed chunk size")
            return -1
        line = _CHUNK_LINE.fullmatch(data, at, end)
        if line is None:
            raise Malformed(HTTPStatus.BAD_REQUEST, "malformed chunk size")
        self._left = int(line[1], 16)
        self._overhead += end - at - _CHUNK_EXCUSED - _DATA_EXCUSES * self._left
        self._overhead = max(self._overhead, 0)
        if self._overhead > self._limits.chunk_overhead_max:
            raise Malformed(HTTPStatus.BAD_REQUEST, "more chunk extensions than data")
        self._in_trailers = not self._left
        self._in_chunk = bool(self._left)
        return end + len(_CRLF)

    def _read_chunk_end(self, data: bytes, at: int) -> int:
        found = data[at : at + len(_CRLF)]
        if not _CRLF.startswith(found):
            raise Malformed(HTTPStatus.BAD_REQUEST, "a chunk is longer than its size")
        if len(found) < len(_CRLF):
            return -1
        self._in_chunk = False
        return at + len(_CRLF)

    def _read_trailers(self, data: bytes, at: int) -> int:
        if data.startswith(_CRLF, at):
            self.done = True
            return at + len(_CRLF)
        limit = self._limits.trailers_max
        end = data.find(_CRLF + _CRLF, at, at + limit)
        if end < 0:
            if len(data) - at >= limit:
                raise Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"trailers larger than {limit} bytes")
            return -1
        self.trailers = parse_trailers(data[at : end + len(_CRLF)], self._limits)
        self.done = True
        return end + 2 * len(_CRLF)


def open_body(length: int | None, chunked: bool, limits: Http1Limits, *, until_close: bool) -> BodyReader:
    """The reader of a body framed like this; `until_close`: what an unannounced body means."""
    if chunked:
        return ChunkedBody(limits)
    if length:
        return LengthBody(length)
    if length is None and until_close:
        return CloseBody()
    return NoBody()
