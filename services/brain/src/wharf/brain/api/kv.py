"""etcdserverpb.KV: Range, RangeStream, Put, DeleteRange, Txn, Compact.

The shapes kube-apiserver sends are recognised in the request bytes and answered without building a message; everything
else takes the way through protobuf. Both ways give the same bytes (tests hold them against each other).
"""

from __future__ import annotations

from dataclasses import replace

from wharf.brain.api import decode
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.range_stream import RangeStream
from wharf.brain.api.service import fail, server_stream, unary
from wharf.brain.errors import BrainError, FilterNotStreamable, SortNotStreamable
from wharf.brain.store.shapes import (
    Committed,
    DeleteAnswer,
    PutAnswer,
    RangeOp,
    SortOrder,
    SortTarget,
    TxnAnswer,
)
from wharf.wire.rpc import Call, Method

_SERVICE = "/etcdserverpb.KV/"


class KvApi:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._encoder = node.encoder
        self._max_request_bytes = node.limits.max_request_bytes
        self._fast_bytes = self._max_request_bytes - decode.ENVELOPE
        self._max_txn_ops = node.limits.max_txn_ops

    def methods(self) -> list[Method]:
        return [
            unary(_SERVICE + "Range", self.range),
            server_stream(_SERVICE + "RangeStream", self.range_stream),
            unary(_SERVICE + "Put", self.put),
            unary(_SERVICE + "DeleteRange", self.delete_range),
            unary(_SERVICE + "Txn", self.txn),
            unary(_SERVICE + "Compact", self.compact),
        ]

    def range(self, data: bytes, call: Call) -> None:
        fast = self._store.range_fast(data)
        if fast is None:
            self._range(data, call)
        elif isinstance(fast, bytes):
            call.reply(fast)
        else:
            call.reply_parts(*fast)

    def _range(self, data: bytes, call: Call) -> None:
        answer = self._store.range(decode.range_op(decode.parse(rpc.RangeRequest, data)))
        if answer.parts is None:
            call.reply(self._encoder.range(answer))
        else:
            call.reply_parts(*self._encoder.range_parts(answer, answer.parts))

    def range_stream(self, data: bytes, call: Call) -> None:
        op = _streamable(decode.range_op(decode.parse_message(rpc.RangeRequest, data)))
        RangeStream(self._store, self._encoder, op, self._max_request_bytes, call).start()

    def put(self, data: bytes, call: Call) -> None:
        op = decode.put_op(decode.parse(rpc.PutRequest, data))
        decode.check_size(data, self._max_request_bytes)

        def done(outcome: Committed | BrainError) -> None:
            if isinstance(outcome, Committed) and isinstance(outcome.answer, PutAnswer):
                call.reply(self._encoder.put(outcome, outcome.answer))
            else:
                _refuse(call, outcome)

        self._store.submit(op, done)

    def delete_range(self, data: bytes, call: Call) -> None:
        op = decode.delete_op(decode.parse(rpc.DeleteRangeRequest, data))
        decode.check_size(data, self._max_request_bytes)

        def done(outcome: Committed | BrainError) -> None:
            if isinstance(outcome, Committed) and isinstance(outcome.answer, DeleteAnswer):
                call.reply(self._encoder.delete(outcome, outcome.answer))
            else:
                _refuse(call, outcome)

        self._store.submit(op, done)

    def txn(self, data: bytes, call: Call) -> None:
        if len(data) > self._fast_bytes or not self._store.submit_fast(
            data, call.reply, lambda error: fail(call, error)
        ):
            self._txn(data, call)

    def _txn(self, data: bytes, call: Call) -> None:
        op = decode.txn_op(decode.parse(rpc.TxnRequest, data), self._max_txn_ops)
        if not decode.is_read_only(op):
            decode.check_size(data, self._max_request_bytes)

        def done(outcome: Committed | BrainError) -> None:
            if isinstance(outcome, Committed) and isinstance(outcome.answer, TxnAnswer):
                call.reply(self._encoder.txn(outcome.revision, outcome.answer))
            else:
                _refuse(call, outcome)

        self._store.submit(op, done)

    def compact(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.CompactionRequest, data)

        def done(error: BrainError | None) -> None:
            if error is not None:
                fail(call, error)
            else:
                call.reply(self._encoder.header(self._store.revision))

        self._store.compact(request.revision, request.physical, done)


def _refuse(call: Call, outcome: Committed | BrainError) -> None:
    fail(call, outcome if isinstance(outcome, BrainError) else TypeError(f"answer of another kind: {outcome!r}"))


def _streamable(op: RangeOp) -> RangeOp:
    """`op` in the order of keys. A stream is sent as it is read: no other order, no filters."""
    if op.sort_order is SortOrder.DESCEND or (
        op.sort_order is SortOrder.ASCEND and op.sort_target is not SortTarget.KEY
    ):
        raise SortNotStreamable
    if op.min_mod_revision or op.max_mod_revision or op.min_create_revision or op.max_create_revision:
        raise FilterNotStreamable
    return replace(op, sort_order=SortOrder.NONE, sort_target=SortTarget.KEY)
