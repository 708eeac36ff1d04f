"""etcdserverpb.Auth: users, roles, permissions, and tokens for passwords.

Permissions are not checked here but by the guard in front (see `guard`). With several nodes, AuthStatus is answered
after a read index on the node that is asked, everything else by the node that leads.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final, cast

from google.protobuf.message import Message
from wharf.brain.api import decode
from wharf.brain.api.node import Node
from wharf.brain.api.pb import authpb, rpc
from wharf.brain.api.service import unary
from wharf.brain.auth import tokens
from wharf.brain.auth.book import AuthBook
from wharf.brain.auth.passwords import UNUSABLE, Hasher
from wharf.brain.auth.shapes import (
    OPEN_END,
    ROOT,
    Access,
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
    SetPassword,
)
from wharf.brain.errors import (
    AuthFailed,
    AuthNotEnabled,
    InvalidAuthManagement,
    NoPasswordUser,
    PermissionNotGiven,
    UserEmpty,
)
from wharf.common.log import get_log
from wharf.wire.rpc import Call, Method

_log = get_log("brain.auth")
_SERVICE = "/etcdserverpb.Auth/"
_NAME_SHOWN: Final = 64  # characters of a name that nobody here vouches for, in the log
_ROOT_PERMISSION: Final = Permission(Access.READWRITE, b"", OPEN_END)  # what etcd shows for the root role
_KNOWN_ACCESS: Final = frozenset(map(int, Access))


class AuthApi:
    def __init__(self, node: Node, book: AuthBook, hasher: Hasher, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds of the wall clock, which the time to live of a token counts from."""
        self._store = node.store
        self._tasks = node.tasks
        self._header = node.encoder.header
        self._book = book
        self._hasher = hasher
        self._now = now

    def methods(self) -> list[Method]:
        return [
            unary(_SERVICE + "AuthEnable", self.enable),
            unary(_SERVICE + "AuthDisable", self.disable),
            unary(_SERVICE + "AuthStatus", self.status),
            unary(_SERVICE + "Authenticate", self.authenticate),
            unary(_SERVICE + "UserAdd", self.user_add),
            unary(_SERVICE + "UserGet", self.user_get),
            unary(_SERVICE + "UserList", self.user_list),
            unary(_SERVICE + "UserDelete", self.user_delete),
            unary(_SERVICE + "UserChangePassword", self.user_change_password),
            unary(_SERVICE + "UserGrantRole", self.user_grant_role),
            unary(_SERVICE + "UserRevokeRole", self.user_revoke_role),
            unary(_SERVICE + "RoleAdd", self.role_add),
            unary(_SERVICE + "RoleGet", self.role_get),
            unary(_SERVICE + "RoleList", self.role_list),
            unary(_SERVICE + "RoleDelete", self.role_delete),
            unary(_SERVICE + "RoleGrantPermission", self.role_grant_permission),
            unary(_SERVICE + "RoleRevokePermission", self.role_revoke_permission),
        ]

    # The switch, and entering

    def enable(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthEnableRequest, data)
        self._change(call, Enable(secrets.token_bytes(tokens.KEY_BYTES)))

    def disable(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthDisableRequest, data)
        self._change(call, Disable())

    def status(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthStatusRequest, data)
        state = self._book.state
        self._reply(call, rpc.AuthStatusResponse(enabled=state.enabled, authRevision=state.revision))

    def authenticate(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthenticateRequest, data)
        self._tasks.run(call, lambda: self._authenticate(request.name, request.password, call.peer.address))

    async def _authenticate(self, name: str, password: str, address: str) -> bytes:
        """Asked again if the user changed while the password was hashed: what is let in was right when let in."""
        while True:
            state = self._book.state
            if not state.enabled:
                raise AuthNotEnabled
            user = state.users.get(name)
            if user is not None and user.password is None:
                raise NoPasswordUser
            is_right = await self._hasher.matches(None if user is None else user.password, password)
            state = self._book.state
            if state.users.get(name) != user:
                continue
            if user is None or not is_right:
                _log.warn("a user was refused: unknown, or a wrong password", user=name[:_NAME_SHOWN], client=address)
                raise AuthFailed
            if not state.enabled:
                continue
            claims = tokens.Claims(name, state.revision, self._now())
            body = rpc.AuthenticateResponse(token=tokens.issue(state.key, claims))
            return self._header(self._store.revision) + body.SerializeToString()

    # Users

    def user_add(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthUserAddRequest, data)
        if not request.name:
            raise UserEmpty
        if request.options.no_password:
            self._change(call, AddUser(request.name))
        else:
            self._change_hashed(call, request.password, lambda made: AddUser(request.name, made))

    def user_get(self, data: bytes, call: Call) -> None:
        user = self._book.state.user(decode.parse(rpc.AuthUserGetRequest, data).name)
        self._reply(call, rpc.AuthUserGetResponse(roles=user.roles))

    def user_list(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthUserListRequest, data)
        self._reply(call, rpc.AuthUserListResponse(users=sorted(self._book.state.users, key=str.encode)))

    def user_delete(self, data: bytes, call: Call) -> None:
        self._change(call, DeleteUser(decode.parse(rpc.AuthUserDeleteRequest, data).name))

    def user_change_password(self, data: bytes, call: Call) -> None:
        """Without a password nobody enters as this user any more, as in etcd; an already hashed password is refused."""
        request = decode.parse(rpc.AuthUserChangePasswordRequest, data)
        self._book.state.user(request.name)
        if request.password:
            self._change_hashed(call, request.password, lambda made: SetPassword(request.name, made))
        elif request.hashedPassword:
            raise InvalidAuthManagement
        else:
            self._change(call, SetPassword(request.name, UNUSABLE))

    def user_grant_role(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthUserGrantRoleRequest, data)
        self._change(call, GrantRole(request.user, request.role))

    def user_revoke_role(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthUserRevokeRoleRequest, data)
        self._change(call, RevokeRole(request.name, request.role))

    # Roles

    def role_add(self, data: bytes, call: Call) -> None:
        self._change(call, AddRole(decode.parse(rpc.AuthRoleAddRequest, data).name))

    def role_get(self, data: bytes, call: Call) -> None:
        role = self._book.state.role(decode.parse(rpc.AuthRoleGetRequest, data).role)
        permissions = (_ROOT_PERMISSION,) if role.name == ROOT else role.permissions
        self._reply(call, rpc.AuthRoleGetResponse(perm=map(_message, permissions)))

    def role_list(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthRoleListRequest, data)
        self._reply(call, rpc.AuthRoleListResponse(roles=sorted(self._book.state.roles, key=str.encode)))

    def role_delete(self, data: bytes, call: Call) -> None:
        self._change(call, DeleteRole(decode.parse(rpc.AuthRoleDeleteRequest, data).role))

    def role_grant_permission(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthRoleGrantPermissionRequest, data)
        if not request.HasField("perm"):
            raise PermissionNotGiven
        wanted = request.perm
        number = int(wanted.permType)
        access = Access(number) if number in _KNOWN_ACCESS else number
        self._change(call, GrantPermission(request.name, Permission(access, wanted.key, wanted.range_end)))

    def role_revoke_permission(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.AuthRoleRevokePermissionRequest, data)
        self._change(call, RevokePermission(request.role, request.key, request.range_end))

    # Answers

    def _change(self, call: Call, operation: Operation) -> None:
        self._tasks.run(call, lambda: self._changed(operation))

    def _change_hashed(self, call: Call, password: str, operation: Callable[[str], Operation]) -> None:
        async def change() -> bytes:
            return await self._changed(operation(await self._hasher.hash(password)))

        self._tasks.run(call, change)

    async def _changed(self, operation: Operation) -> bytes:
        await self._book.changed(operation)
        return self._header(self._store.revision)

    def _reply(self, call: Call, body: Message) -> None:
        call.reply(self._header(self._store.revision) + body.SerializeToString())


def _message(permission: Permission) -> authpb.Permission:
    return authpb.Permission(
        permType=cast(authpb.Permission.Type.ValueType, int(permission.access)),
        key=permission.key,
        range_end=permission.range_end,
    )
