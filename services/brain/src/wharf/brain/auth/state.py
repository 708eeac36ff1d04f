"""All users and roles at one auth revision, and what a change makes of them. Pure.

Invariant: a state never changes; `apply` returns another one, or the same object when there is nothing to change. The
revision grows by one with every change but enabling, as etcd's does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from wharf.brain.auth.rules import is_valid_range
from wharf.brain.auth.shapes import (
    ROOT,
    AddRole,
    AddUser,
    DeleteRole,
    DeleteUser,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    Operation,
    Permission,
    RevokePermission,
    RevokeRole,
    Role,
    SetPassword,
    User,
)
from wharf.brain.errors import (
    InvalidAuthManagement,
    PermissionNotGranted,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    RootRoleNotExist,
    RootUserNotExist,
    UserEmpty,
    UserExists,
    UserNotFound,
)

FIRST_REVISION: Final = 1  # of a store that never had a user


@dataclass(frozen=True, slots=True)
class AuthState:
    enabled: bool = False
    revision: int = FIRST_REVISION
    key: bytes = field(default=b"", repr=False)  # that tokens are signed with; empty: never enabled
    users: Mapping[str, User] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """Grows with every change. Enabling keeps the revision, as in etcd, so the switch counts too: states of one
        store with equal versions are equal.
        """
        return 2 * self.revision + self.enabled

    def user(self, name: str) -> User:
        """The user; UserNotFound."""
        found = self.users.get(name)
        if found is None:
            raise UserNotFound
        return found

    def role(self, name: str) -> Role:
        """The role; RoleNotFound."""
        found = self.roles.get(name)
        if found is None:
            raise RoleNotFound
        return found


def apply(state: AuthState, operation: Operation) -> AuthState:
    """The state after `operation`; raises the BrainError that etcd refuses it with."""
    match operation:
        case Enable() | Disable():
            return _switch(state, operation)
        case AddUser() | DeleteUser() | SetPassword() | GrantRole() | RevokeRole():
            return _change_user(state, operation)
        case AddRole() | DeleteRole() | GrantPermission() | RevokePermission():
            return _change_role(state, operation)
        case _:
            assert_never(operation)


def _switch(state: AuthState, operation: Enable | Disable) -> AuthState:
    if isinstance(operation, Disable):
        return replace(state, enabled=False, revision=state.revision + 1) if state.enabled else state
    if state.enabled:
        return state
    root = state.users.get(ROOT)
    if root is None:
        raise RootUserNotExist
    if not root.is_root:
        raise RootRoleNotExist
    return replace(state, enabled=True, key=operation.key)


def _change_user(state: AuthState, operation: AddUser | DeleteUser | SetPassword | GrantRole | RevokeRole) -> AuthState:
    match operation:
        case AddUser(name, password):
            if not name:
                raise UserEmpty
            if name in state.users:
                raise UserExists
            return _with_user(state, User(name, password, since=state.revision + 1))
        case DeleteUser(name):
            if state.enabled and name == ROOT:
                raise InvalidAuthManagement
            state.user(name)
            left = {other: user for other, user in state.users.items() if other != name}
            return replace(state, users=left, revision=state.revision + 1)
        case SetPassword(name, password):
            user = state.user(name)
            kept = None if user.password is None else password
            return _with_user(state, replace(user, password=kept, since=state.revision + 1))
        case GrantRole(name, role):
            return _grant_role(state, state.user(name), role)
        case RevokeRole(name, role):
            if state.enabled and name == role == ROOT:
                raise InvalidAuthManagement
            user = state.user(name)
            if role not in user.roles:
                raise RoleNotGranted
            return _with_user(state, _without_role(user, role))
        case _:
            assert_never(operation)


def _grant_role(state: AuthState, user: User, role: str) -> AuthState:
    """The root role need not have been added to be granted."""
    if role != ROOT:
        state.role(role)
    if role in user.roles:
        return state
    return _with_user(state, replace(user, roles=tuple(sorted((*user.roles, role), key=str.encode))))


def _change_role(state: AuthState, operation: AddRole | DeleteRole | GrantPermission | RevokePermission) -> AuthState:
    match operation:
        case AddRole(name):
            if not name:
                raise RoleEmpty
            if name in state.roles:
                raise RoleExists
            return _with_role(state, Role(name))
        case DeleteRole(name):
            return _delete_role(state, name)
        case GrantPermission(name, permission):
            if not is_valid_range(permission.key, permission.range_end):
                raise InvalidAuthManagement
            role = state.role(name)
            others = _others(role, permission.key, permission.range_end)
            granted = sorted((*others, permission), key=lambda each: each.key)
            return _with_role(state, Role(name, tuple(granted)))
        case RevokePermission(name, key, range_end):
            role = state.role(name)
            left = _others(role, key, range_end)
            if len(left) == len(role.permissions):
                raise PermissionNotGranted
            return _with_role(state, Role(name, left))
        case _:
            assert_never(operation)


def _delete_role(state: AuthState, name: str) -> AuthState:
    if state.enabled and name == ROOT:
        raise InvalidAuthManagement
    state.role(name)
    roles = {other: role for other, role in state.roles.items() if other != name}
    users = {each.name: _without_role(each, name) if name in each.roles else each for each in state.users.values()}
    return replace(state, roles=roles, users=users, revision=state.revision + 1)


def _others(role: Role, key: bytes, range_end: bytes) -> tuple[Permission, ...]:
    return tuple(each for each in role.permissions if (each.key, each.range_end) != (key, range_end))


def _with_user(state: AuthState, user: User) -> AuthState:
    return replace(state, users={**state.users, user.name: user}, revision=state.revision + 1)


def _with_role(state: AuthState, role: Role) -> AuthState:
    return replace(state, roles={**state.roles, role.name: role}, revision=state.revision + 1)


def _without_role(user: User, role: str) -> User:
    return replace(user, roles=tuple(each for each in user.roles if each != role))
