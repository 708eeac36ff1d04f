"""Answers as protobuf bytes: framing around KeyValues that are stored serialized already.

Responses are written by concatenation instead of building message objects, because almost all of a response is bytes
that exist; what is cheap to get wrong (field numbers, omitted zeros, order) is here and nowhere else. Pure.

Invariant: what is written parses as the etcdserverpb message and, re-serialized, is the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wharf.brain.api.pb import rpc
from wharf.brain.store.keys import parse_varint
from wharf.brain.store.shapes import Answer, Committed, DeleteAnswer, PutAnswer, RangeAnswer, TxnAnswer

_SMALL = [bytes((value,)) for value in range(128)]
_UINT64 = 2**64 - 1
_MORE = b"\x18\x01"  # RangeResponse.more, field 3
_SUCCEEDED = b"\x10\x01"  # TxnResponse.succeeded, field 2
_RESPONSES = 0x1A  # TxnResponse.responses, field 3
_RESPONSE_OP = {RangeAnswer: 0x0A, PutAnswer: 0x12, DeleteAnswer: 0x1A, TxnAnswer: 0x22}  # ResponseOp, fields 1 to 4


def varint(value: int) -> bytes:
    """A protobuf varint; negative numbers as ten bytes, the way int64 fields carry them."""
    if 0 <= value < 128:
        return _SMALL[value]
    value &= _UINT64
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(tag: int, value: int) -> bytes:
    """A varint field with a one-byte tag; nothing for zero, as proto3 has it."""
    return bytes((tag,)) + varint(value) if value else b""


def message(tag: int, body: bytes) -> bytes:
    """A length-delimited field with a one-byte tag, present even when empty."""
    return bytes((tag,)) + varint(len(body)) + body


def blob(tag: int, body: bytes) -> bytes:
    """A bytes field with a one-byte tag; nothing when empty."""
    return message(tag, body) if body else b""


def as_member(response: bytes, member_id: int) -> bytes:
    """`response` of another member as this one gives it: only the header tells who answered."""
    if response[:1] != b"\x0a":
        return response
    length, at = parse_varint(response, 1)
    header = rpc.ResponseHeader.FromString(response[at : at + length])
    header.member_id = member_id
    return message(0x0A, header.SerializeToString()) + response[at + length :]


class Encoder:
    """Responses of one node: its cluster, member and term are the same in every header."""

    def __init__(self, cluster_id: int, member_id: int, raft_term: int) -> None:
        self._prefix = number(0x08, cluster_id) + number(0x10, member_id)
        self._suffix = number(0x20, raft_term)

    def set_term(self, raft_term: int) -> None:
        """Of every header from now on."""
        self._suffix = number(0x20, raft_term)

    def header(self, revision: int) -> bytes:
        """Field 1 of every response: ResponseHeader."""
        return message(0x0A, self._prefix + number(0x18, revision) + self._suffix)

    def range(self, answer: RangeAnswer) -> bytes:
        return self.header(answer.revision) + answer.framed + _range_tail(answer)

    def range_parts(self, answer: RangeAnswer, parts: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """(length, pieces) of a RangeResponse whose KeyValues come in `parts`."""
        head, tail = self.header(answer.revision), _range_tail(answer)

        def pieces() -> Iterator[bytes]:
            yield head
            yield from parts
            yield tail

        return len(head) + answer.framed_length + len(tail), pieces()

    def put(self, committed: Committed, answer: PutAnswer) -> bytes:
        return self.header(committed.revision) + _put_body(answer)

    def delete(self, committed: Committed, answer: DeleteAnswer) -> bytes:
        return self.header(committed.revision) + _delete_body(answer)

    def txn(self, revision: int, answer: TxnAnswer) -> bytes:
        """TxnResponse. Inner headers carry only a revision: the one their operation saw or made, as etcd fills them."""
        changed = _changes(answer)
        walker = _InnerAnswers(revision - 1 if changed else revision)
        return self.header(revision) + walker.txn_body(answer)

    def stream_chunk(self, framed: bytes, last: RangeAnswer | None, count: int) -> bytes:
        """RangeStreamResponse: a slice of the list; header, more and count only with the last one."""
        if last is None:
            return message(0x0A, framed)
        tail = (_MORE if last.more else b"") + number(0x20, count)
        return message(0x0A, self.header(last.revision) + framed + tail)


def _range_tail(answer: RangeAnswer) -> bytes:
    return (_MORE if answer.more else b"") + number(0x20, answer.count)


def _put_body(answer: PutAnswer) -> bytes:
    return b"" if answer.prev is None else message(0x12, answer.prev)


def _delete_body(answer: DeleteAnswer) -> bytes:
    return number(0x10, answer.deleted) + frame_values(0x1A, answer.prevs)


def _changes(answer: Answer) -> bool:
    """Did this part of a transaction change anything?"""
    if isinstance(answer, TxnAnswer):
        return any(map(_changes, answer.answers))
    return isinstance(answer, PutAnswer) or (isinstance(answer, DeleteAnswer) and answer.deleted > 0)


def _bare_header(revision: int) -> bytes:
    return message(0x0A, number(0x18, revision))


class _InnerAnswers:
    """Writes the answers of one transaction in order, knowing whether it has changed anything so far."""

    def __init__(self, base: int) -> None:
        self._base = base  # the store's revision before the transaction
        self._changed = False

    def txn_body(self, answer: TxnAnswer) -> bytes:
        responses = b"".join(message(_RESPONSES, self._response(inner)) for inner in answer.answers)
        return (_SUCCEEDED if answer.succeeded else b"") + responses

    def _response(self, answer: Answer) -> bytes:
        return message(_RESPONSE_OP[type(answer)], self._body(answer))

    def _body(self, answer: Answer) -> bytes:
        if isinstance(answer, RangeAnswer):
            framed = answer.framed if answer.parts is None else b"".join(answer.parts)
            return _bare_header(answer.revision) + framed + _range_tail(answer)
        if isinstance(answer, TxnAnswer):
            return b"\x0a\x00" + self.txn_body(answer)
        self._changed = self._changed or _changes(answer)
        body = _put_body(answer) if isinstance(answer, PutAnswer) else _delete_body(answer)
        return _bare_header(self._base + self._changed) + body


def frame_values(tag: int, values: Iterable[bytes]) -> bytes:
    """Serialized messages as a repeated field."""
    return b"".join(message(tag, value) for value in values)
