"""Who may touch which keys. Pure.

A user's permissions are merged into disjoint ranges once per state and user; a question is then one binary search. A
range is permitted if every key in it is, over as many permissions as that takes; a range that holds no key needs what
its first key needs.

Invariant: nothing is permitted that no permission of the user's roles covers, except to those who have the root role.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from wharf.brain.auth.shapes import OPEN_END, Access, Permission, Role, User
from wharf.brain.errors import PermissionDenied, UserEmpty, UserNotFound
from wharf.brain.store.shapes import DeleteOp, Op, PutOp, RangeOp, TxnOp

Interval = tuple[bytes, bytes | None]
"""[begin, end); end None: no end."""

KeysOf = Callable[[int], Iterable[bytes]]
"""The keys attached to a lease, none for one that is not there."""


def interval(key: bytes, range_end: bytes) -> Interval:
    """The keys that `key` and `range_end` of a request or a permission mean."""
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == OPEN_END else range_end


def is_valid_range(key: bytes, range_end: bytes) -> bool:
    """Whether a permission may be granted for this: a key, or a range that is not empty."""
    return bool(key) and (not range_end or range_end == OPEN_END or key < range_end)


class Coverage:
    """A set of keys made of ranges."""

    __slots__ = ("_begins", "_ends")

    def __init__(self, intervals: Iterable[Interval]) -> None:
        self._begins: list[bytes] = []
        self._ends: list[bytes | None] = []
        for begin, end in sorted(intervals, key=lambda each: each[0]):
            if end is not None and end <= begin:
                continue
            if self._begins and self._joins(begin):
                if self._ends[-1] is not None and (end is None or end > self._ends[-1]):
                    self._ends[-1] = end
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def _joins(self, begin: bytes) -> bool:
        last = self._ends[-1]
        return last is None or begin <= last

    def covers(self, begin: bytes, end: bytes | None) -> bool:
        """Whether all keys of [begin, end) are in the set; of an empty range, whether `begin` is."""
        at = bisect_right(self._begins, begin) - 1
        if at < 0:
            return False
        last = self._ends[at]
        return last is None or (begin < last and end is not None and end <= last)


class _Grants:
    """What one user may read and write."""

    __slots__ = ("read", "write")

    def __init__(self, permissions: Sequence[Permission]) -> None:
        self.read = Coverage(interval(each.key, each.range_end) for each in permissions if each.reads)
        self.write = Coverage(interval(each.key, each.range_end) for each in permissions if each.writes)


_NOTHING: Final = _Grants(())


class Rules:
    """What the users of one state may do. `who`: a user's name, None for a caller who gave none."""

    def __init__(self, users: Mapping[str, User], roles: Mapping[str, Role]) -> None:
        self._users = users
        self._roles = roles
        self._grants: dict[str, _Grants] = {}

    def has_role(self, who: str | None, role: str) -> bool:
        user = self._users.get(who or "")
        return user is not None and role in user.roles

    def require_somebody(self, who: str | None) -> None:
        """UserEmpty if the caller has not said who they are."""
        if who is None:
            raise UserEmpty

    def require_root(self, who: str | None) -> None:
        """UserEmpty, UserNotFound or PermissionDenied unless the caller has the root role."""
        if not who:
            raise UserEmpty
        user = self._users.get(who)
        if user is None:
            raise UserNotFound
        if not user.is_root:
            raise PermissionDenied

    def require(self, who: str | None, access: Access, key: bytes, range_end: bytes = b"") -> None:
        """UserEmpty or PermissionDenied unless the caller has READ or WRITE `access` to the key or the range."""
        if who is None:
            raise UserEmpty
        user = self._users.get(who)
        if user is None:
            raise PermissionDenied
        if user.is_root:
            return
        grants = self._grants_of(user)
        coverage = grants.read if access is Access.READ else grants.write
        if not coverage.covers(*interval(key, range_end)):
            raise PermissionDenied

    def require_keys(self, who: str | None, access: Access, keys: Callable[[], Iterable[bytes]]) -> None:
        """`require` for each of `keys`, which are not asked for when the caller has the root role."""
        user = self._users.get(who or "")
        if user is None or not user.is_root:
            for key in keys():
                self.require(who, access, key)

    def require_op(self, who: str | None, op: Op, keys_of: KeysOf) -> None:
        """`require` for everything that `op` may do, whichever way its conditions turn out."""
        match op:
            case RangeOp():
                self.require(who, Access.READ, op.key, op.range_end)
            case PutOp():
                self._require_put(who, op, keys_of)
            case DeleteOp():
                self.require(who, Access.WRITE, op.key, op.range_end)
                if op.prev_kv:
                    self.require(who, Access.READ, op.key, op.range_end)
            case TxnOp():
                for compare in op.compares:
                    self.require(who, Access.READ, compare.key, compare.range_end)
                for inner in (*op.success, *op.failure):
                    self.require_op(who, inner, keys_of)

    def _require_put(self, who: str | None, op: PutOp, keys_of: KeysOf) -> None:
        """Who attaches a key to a lease must be able to revoke that lease: to write all its keys."""
        self.require(who, Access.WRITE, op.key)
        if op.lease:
            self.require_keys(who, Access.WRITE, lambda: keys_of(op.lease))
        if op.prev_kv:
            self.require(who, Access.READ, op.key)

    def _grants_of(self, user: User) -> _Grants:
        grants = self._grants.get(user.name)
        if grants is None:
            permissions = tuple(self._permissions(user))
            grants = self._grants[user.name] = _Grants(permissions) if permissions else _NOTHING
        return grants

    def _permissions(self, user: User) -> Iterator[Permission]:
        for name in user.roles:
            role = self._roles.get(name)
            if role is not None:
                yield from role.permissions
