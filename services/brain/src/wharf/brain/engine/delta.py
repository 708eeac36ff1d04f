"""What one batch changed, as followers need it: deltas in order make a replica out of an earlier one. Pure.

A delta carries the log records of its revisions and the META changes. NOW and HISTORY follow from the records and the
state before, so they are not sent. Deltas are numbered: `seq` counts every batch of the authority, also
those that change no key, and the next delta after `seq` n is n + 1. Whoever misses one reads the log of the authority.

A batch too large for one message is announced without its content (`whole` False): it says only how far the authority
is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAGIC = b"wd1"
_HEAD = struct.Struct(">3sBQQQQII")  # magic, whole, epoch, seq, base, revision, records, meta entries
_LENGTH = struct.Struct(">I")
_ABSENT = 0xFFFF_FFFF


class Position(NamedTuple):
    """How far a replica or an authority is."""

    epoch: int  # of the writer of the newest batch
    seq: int  # batches so far
    revision: int


class Delta(NamedTuple):
    epoch: int
    seq: int
    base: int  # revision before
    revision: int  # and after: one record for each of base + 1 .. revision
    records: Sequence[bytes]
    meta: Sequence[tuple[bytes, bytes | None]]  # None: deleted
    whole: bool = True


class BadDelta(ValueError):
    """These bytes are no delta of this version."""


def encode_delta(delta: Delta, limit: int) -> bytes:
    """The message for `delta`, at most `limit` bytes: without its content when that is more."""
    parts: list[bytes] = []
    size = _HEAD.size
    for piece in _pieces(delta) if delta.whole else ():
        parts.append(piece)
        size += len(piece)
        if size > limit:
            return encode_delta(announcement(delta), limit)
    head = _HEAD.pack(
        MAGIC,
        delta.whole,
        delta.epoch,
        delta.seq,
        delta.base,
        delta.revision,
        len(delta.records) if delta.whole else 0,
        len(delta.meta) if delta.whole else 0,
    )
    return b"".join((head, *parts))


def announcement(delta: Delta) -> Delta:
    """`delta` without its content."""
    return delta._replace(records=(), meta=(), whole=False)


def parse_delta(data: bytes) -> Delta:
    """The inverse of `encode_delta`; BadDelta for anything else."""
    try:
        magic, whole, epoch, seq, base, revision, records, meta = _HEAD.unpack_from(data)
        if magic != MAGIC or whole > 1:
            raise BadDelta("not a delta of this version")
        reader = _Reader(data, _HEAD.size)
        delta = Delta(
            epoch,
            seq,
            base,
            revision,
            [reader.take() for _ in range(records)],
            [(reader.take(), reader.take_optional()) for _ in range(meta)],
            bool(whole),
        )
    except struct.error as error:
        raise BadDelta("a delta is cut short") from error
    if reader.at != len(data):
        raise BadDelta("bytes follow a delta")
    if whole and revision - base != records:
        raise BadDelta("a delta lacks records")
    return delta


def _pieces(delta: Delta) -> Iterator[bytes]:
    for record in delta.records:
        yield _LENGTH.pack(len(record)) + record
    for key, value in delta.meta:
        yield _LENGTH.pack(len(key)) + key
        yield _LENGTH.pack(_ABSENT) if value is None else _LENGTH.pack(len(value)) + value


class _Reader:
    """A cursor over a message."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take_optional(self) -> bytes | None:
        (length,) = _LENGTH.unpack_from(self.data, self.at)
        start = self.at + _LENGTH.size
        if length == _ABSENT:
            self.at = start
            return None
        if length > len(self.data) - start:
            raise BadDelta("a delta is cut short")
        self.at = start + length
        return self.data[start : self.at]

    def take(self) -> bytes:
        taken = self.take_optional()
        if taken is None:
            raise BadDelta("a delta lacks a record")
        return taken


def follows(position: Position, delta: Delta) -> bool:
    """Whether `delta` is the very next one, of the same writer or of a later one."""
    return delta.seq == position.seq + 1 and delta.base == position.revision and delta.epoch >= position.epoch
