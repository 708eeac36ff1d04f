"""Every error brain answers with: etcd's text and gRPC code, one class each.

Clients match on the exact text (etcd api/v3rpc/rpctypes), so the table is the contract. `retry_safe`: nothing was done, the same
request may be sent again.
"""

from __future__ import annotations

from wharf.wire.rpc import Code


class BrainError(Exception):
    """Root: an answer in etcd's own words."""

    code: Code = Code.UNKNOWN
    text: str = ""
    retry_safe: bool = False

    def __str__(self) -> str:
        return self.text


class Compacted(BrainError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"


class FutureRevision(BrainError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"


class NoSpace(BrainError):
    code, text = Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"


class KeyNotProvided(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: key is not provided"


class KeyNotFound(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: key not found"


class ValueProvided(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: value is provided"


class LeaseProvided(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: lease is provided"


class TooManyOps(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"


class DuplicateKey(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"


class InvalidSortOption(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid sort option"


class RequestTooLarge(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: request is too large"


class TooManyRequests(BrainError):
    code, text, retry_safe = Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", True


class LeaseNotFound(BrainError):
    code, text = Code.NOT_FOUND, "etcdserver: requested lease not found"


class LeaseExists(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: lease already exists"


class LeaseTtlTooLarge(BrainError):
    code, text = Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"


class Stopped(BrainError):
    code, text, retry_safe = Code.UNAVAILABLE, "etcdserver: server stopped", True


class NoLeader(BrainError):
    code, text, retry_safe = Code.UNAVAILABLE, "etcdserver: no leader", True


class CorruptStore(BrainError):
    code, text = Code.DATA_LOSS, "etcdserver: corrupt cluster"
