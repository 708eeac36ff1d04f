"""Every error brain answers with: etcd's text and gRPC code, one class each.

Clients match on the exact text (etcd api/v3rpc/rpctypes), so the table is the contract. `retry_safe`: nothing was
done, the same request may be sent again.
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


class Unhealthy(BrainError):
    """The engine has failed; nothing was done."""

    code, text, retry_safe = Code.UNAVAILABLE, "etcdserver: unhealthy cluster", True


class CorruptStore(BrainError):
    code, text = Code.DATA_LOSS, "etcdserver: corrupt cluster"


class ClientApiVersionInvalid(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid client api version"


class WatchCanceled(BrainError):
    code, text = Code.CANCELLED, "etcdserver: watch canceled"


class MemberExists(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: member ID already exist"


class PeerUrlExists(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"


class MemberNotEnoughStarted(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members"


class MemberBadUrls(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"


class MemberNotFound(BrainError):
    code, text = Code.NOT_FOUND, "etcdserver: member not found"


class MemberNotLearner(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: can only promote a learner member"


class RootUserNotExist(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: root user does not exist"


class RootRoleNotExist(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: root user does not have root role"


class UserExists(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: user name already exists"


class UserEmpty(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: user name is empty"


class UserNotFound(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: user name not found"


class RoleExists(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role name already exists"


class RoleNotFound(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role name not found"


class RoleEmpty(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: role name is empty"


class RoleNotGranted(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: role is not granted to the user"


class PermissionNotGiven(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: permission not given"


class PermissionNotGranted(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"


class PermissionDenied(BrainError):
    code, text = Code.PERMISSION_DENIED, "etcdserver: permission denied"


class AuthNotEnabled(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled"


class AuthFailed(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"


class NoPasswordUser(BrainError):
    code, text = Code.UNKNOWN, "auth: authentication failed, password was given for no password user"


class InvalidAuthToken(BrainError):
    """Clients take this one for the word to show their password again."""

    code, text = Code.UNAUTHENTICATED, "etcdserver: invalid auth token"


class AuthOldRevision(BrainError):
    """Users or roles have changed since the caller was authenticated; nothing was done."""

    code, text, retry_safe = Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", True


class InvalidAuthManagement(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid auth management"


class BadLeaderTransferee(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee"


class LeaderTransferTimeout(BrainError):
    code, text = Code.UNAVAILABLE, "etcdserver: request timed out, leader transfer took too long"


class WrongDowngradeVersionFormat(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTargetVersion(BrainError):
    code, text = Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"


class NoInflightDowngrade(BrainError):
    code, text = Code.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job"


class RequestTimeout(BrainError):
    code, text, retry_safe = Code.UNAVAILABLE, "etcdserver: request timed out", False


class LeaderFailed(BrainError):
    """The request may or may not have been done."""

    code = Code.UNAVAILABLE
    text = "etcdserver: request timed out, possibly due to previous leader failure"


class NotLeader(BrainError):
    code, text, retry_safe = Code.FAILED_PRECONDITION, "etcdserver: not leader", True


class UnknownMethod(BrainError):
    code, text = Code.UNKNOWN, "etcdserver: unknown method"


class SortNotStreamable(BrainError):
    code, text = Code.UNIMPLEMENTED, "RangeStream does not support custom sort orders"


class FilterNotStreamable(BrainError):
    code, text = Code.UNIMPLEMENTED, "RangeStream does not support revision filters"


class LeaderFieldMissing(BrainError):
    code, text = Code.UNKNOWN, '"leader" field must be provided'


class ElectionNotLeader(BrainError):
    code, text = Code.UNKNOWN, "election: not leader"


class ElectionNoLeader(BrainError):
    code, text = Code.UNKNOWN, "election: no leader"


class SessionExpired(BrainError):
    code, text = Code.UNKNOWN, "mutex: session is expired"


class MalformedRequest(BrainError):
    """The request bytes are no such message; the text is the one grpc-go gives for a unary call."""

    code = Code.INTERNAL

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.text = f"grpc: error unmarshalling request: {reason}"


class MalformedMessage(BrainError):
    """As `MalformedRequest`, for a message that arrived on a stream."""

    code = Code.INTERNAL

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.text = f"grpc: failed to unmarshal the received message: {reason}"


class ClientSideError(BrainError):
    """A store's error as it looks after passing through a client inside the server: the same text, without its code."""

    def __init__(self, error: BrainError) -> None:
        super().__init__(error.text)
        self.text = error.text
