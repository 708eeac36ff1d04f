"""One KV.RangeStream call: a list sent in chunks at one revision, as fast as its reader takes them.

Chunks start small, so that the first keys arrive at once, and are doubled or halved towards the request size. Between
two chunks the loop serves others; nothing is read ahead of the client's window, so a slow reader costs one chunk of
memory. Merged, the chunks are the Range response: header, `more` and `count` come with the last one.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from wharf.brain.api.encode import Encoder
from wharf.brain.api.service import fail
from wharf.brain.store.shapes import RangeAnswer, RangeOp
from wharf.brain.store.store import Store
from wharf.wire.rpc import Call

FIRST_CHUNK = 10  # keys


class RangeStream:
    def __init__(self, store: Store, encoder: Encoder, op: RangeOp, target_bytes: int, call: Call) -> None:
        self._store = store
        self._encoder = encoder
        self._op = op
        self._target_bytes = target_bytes
        self._call = call
        self._chunk = FIRST_CHUNK
        self._sent = 0  # keys
        self._revision = 0  # of the header: the store's when the first chunk was read

    def start(self) -> None:
        self._call.on_drain = self._next
        if self._op.count_only:
            self._send_count()
        else:
            self._next()

    def _send_count(self) -> None:
        answer = self._store.range(self._op)
        self._call.send(self._encoder.stream_chunk(b"", replace(answer, more=False), answer.count))
        self._call.finish()

    def _next(self) -> None:
        """Read and send one chunk; come back when the loop has served others and the client has room."""
        if self._call.done or not self._call.writable:
            return
        try:
            finished = self._send_chunk()
        except Exception as error:  # whatever it is, the client gets an answer
            fail(self._call, error)
            return
        if not finished and self._call.writable:
            asyncio.get_running_loop().call_soon(self._next)

    def _send_chunk(self) -> bool:
        op = self._op
        wanted = self._chunk if not op.limit else min(self._chunk, op.limit - self._sent)
        answer = self._store.range(replace(op, limit=wanted))
        framed = answer.framed if answer.parts is None else b"".join(answer.parts)
        if not self._revision:
            self._revision = answer.revision
        count = self._sent + answer.count
        self._sent += answer.returned
        if not answer.more or self._sent == op.limit:
            last = RangeAnswer(self._revision, b"", 0, count, answer.more)
            self._call.send(self._encoder.stream_chunk(framed, last, count))
            self._call.finish()
            return True
        self._call.send(self._encoder.stream_chunk(framed, None, 0))
        self._op = replace(
            op, key=last_key(framed) + b"\0", revision=op.revision if op.revision > 0 else self._revision
        )
        self._chunk = next_chunk(wanted, len(framed), self._target_bytes)
        return False


def next_chunk(keys: int, size: int, target: int) -> int:
    """How many keys to ask for after `keys` of them came to `size` bytes."""
    if size < target // 2:
        return keys * 2
    return max(keys // 2, 1) if size > target * 2 else keys


def last_key(framed: bytes) -> bytes:
    """The key of the last KeyValue in RangeResponse.kvs fields."""
    at = start = 0
    while at < len(framed):
        length, start = _varint(framed, at + 1)
        at = start + length
    length, start = _varint(framed, start + 1)  # KeyValue.key is field 1, and written first
    return framed[start : start + length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where the next byte is)."""
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1
