"""What an HTTP/2 session saw, as values: for clients and for tests. The server's hot path makes none."""

from __future__ import annotations

from dataclasses import dataclass

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A header block that opens a request or a response; pseudo-headers first."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Data:
    """Body bytes; `end` closes the peer's side of the stream (and stands alone, with no bytes)."""

    stream_id: int
    data: bytes
    end: bool = False


@dataclass(frozen=True, slots=True)
class Trailers:
    """A header block after the body."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is over. `error_code` 0: it ended in order on both sides."""

    stream_id: int
    error_code: int


Event = Head | Data | Trailers | Reset
