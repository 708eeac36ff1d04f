"""Who there is and what they are granted, and the changes that can be asked for. Pure.

Invariant: roles of a user are sorted by name and permissions of a role by key, each at most once, so that answers come
in etcd's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

ROOT: Final = "root"
"""The user without whom authentication cannot be enabled, and the role that may do everything."""

OPEN_END: Final = b"\0"
"""As `range_end`: no end."""


class Access(IntEnum):
    """What a permission is for; numbers are those of authpb.Permission.Type."""

    READ = 0
    WRITE = 1
    READWRITE = 2


@dataclass(frozen=True, slots=True)
class Permission:
    """Access to the key `key`, or to [key, range_end) if there is a `range_end`; `OPEN_END`: to all keys from `key`.

    A number that is no `Access` is kept as it came and grants nothing, as in etcd.
    """

    access: Access | int
    key: bytes
    range_end: bytes = b""

    @property
    def reads(self) -> bool:
        return self.access in (Access.READ, Access.READWRITE)

    @property
    def writes(self) -> bool:
        return self.access in (Access.WRITE, Access.READWRITE)


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    permissions: tuple[Permission, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password: str | None = field(default=None, repr=False)  # a hash; None: enters by certificate only
    roles: tuple[str, ...] = ()
    since: int = 0  # auth revision of the last change of the password: tokens of older ones are void

    @property
    def is_root(self) -> bool:
        """Whether this user may do everything."""
        return ROOT in self.roles


@dataclass(frozen=True, slots=True)
class Enable:
    """Ask everybody who they are from now on."""

    key: bytes = field(repr=False)  # what tokens are signed with from now on: random, secret


@dataclass(frozen=True, slots=True)
class Disable:
    """Ask nobody any more; all tokens are void."""


@dataclass(frozen=True, slots=True)
class AddUser:
    name: str
    password: str | None = field(default=None, repr=False)  # as in User


@dataclass(frozen=True, slots=True)
class DeleteUser:
    name: str


@dataclass(frozen=True, slots=True)
class SetPassword:
    """A user without a password keeps having none."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class GrantRole:
    user: str
    role: str


@dataclass(frozen=True, slots=True)
class RevokeRole:
    user: str
    role: str


@dataclass(frozen=True, slots=True)
class AddRole:
    name: str


@dataclass(frozen=True, slots=True)
class DeleteRole:
    """Take a role away, from the users that have it too."""

    name: str


@dataclass(frozen=True, slots=True)
class GrantPermission:
    """One already granted for the same keys is replaced."""

    role: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class RevokePermission:
    role: str
    key: bytes
    range_end: bytes = b""


Operation = (
    Enable
    | Disable
    | AddUser
    | DeleteUser
    | SetPassword
    | GrantRole
    | RevokeRole
    | AddRole
    | DeleteRole
    | GrantPermission
    | RevokePermission
)
