"""The refusals the model knows: gRPC status code and exact text, as data."""

from __future__ import annotations

import grpc

Refusal = tuple[grpc.StatusCode, str]


class Refused(Exception):
    """The server answers with this status instead of a message."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.refusal: Refusal = (code, text)


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE

COMPACTED: Refusal = (_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE: Refusal = (_OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_KEY: Refusal = (_INVALID, "etcdserver: key is not provided")
KEY_NOT_FOUND: Refusal = (_INVALID, "etcdserver: key not found")
VALUE_GIVEN: Refusal = (_INVALID, "etcdserver: value is provided")
LEASE_GIVEN: Refusal = (_INVALID, "etcdserver: lease is provided")
TOO_MANY_OPS: Refusal = (_INVALID, "etcdserver: too many operations in txn request")
DUPLICATE_KEY: Refusal = (_INVALID, "etcdserver: duplicate key given in txn request")
INVALID_SORT: Refusal = (_INVALID, "etcdserver: invalid sort option")
LEASE_NOT_FOUND: Refusal = (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS: Refusal = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE: Refusal = (_OUT_OF_RANGE, "etcdserver: too large lease TTL")

DUPLICATE_WATCH = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_WATCH_RANGE = "mvcc: watcher range is empty"
