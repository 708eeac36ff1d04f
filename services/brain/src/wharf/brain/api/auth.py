"""etcdserverpb.Auth on a server without users: authentication is off and stays off.

Clients are told apart by their certificates. Reading calls answer as an etcd whose auth was never enabled; calls that
would store users or roles are refused, because keeping them without ever enforcing them would be a lie.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from wharf.brain.api import decode
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import unary
from wharf.brain.errors import (
    AuthNotEnabled,
    BrainError,
    RoleEmpty,
    RoleNotFound,
    RootUserNotExist,
    UserEmpty,
    UserNotFound,
    UsersNotKept,
)
from wharf.wire.rpc import Call, Method, UnaryHandler

_SERVICE = "/etcdserverpb.Auth/"
_FIRST_AUTH_REVISION = 1

_REFUSALS: tuple[tuple[str, type[Message], type[BrainError]], ...] = (
    ("AuthEnable", rpc.AuthEnableRequest, RootUserNotExist),
    ("Authenticate", rpc.AuthenticateRequest, AuthNotEnabled),
    ("UserGet", rpc.AuthUserGetRequest, UserNotFound),
    ("UserDelete", rpc.AuthUserDeleteRequest, UserNotFound),
    ("UserChangePassword", rpc.AuthUserChangePasswordRequest, UserNotFound),
    ("UserGrantRole", rpc.AuthUserGrantRoleRequest, UserNotFound),
    ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest, UserNotFound),
    ("RoleGet", rpc.AuthRoleGetRequest, RoleNotFound),
    ("RoleDelete", rpc.AuthRoleDeleteRequest, RoleNotFound),
    ("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest, RoleNotFound),
    ("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest, RoleNotFound),
)


class AuthApi:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._encoder = node.encoder

    def methods(self) -> list[Method]:
        return [
            unary(_SERVICE + "AuthStatus", self.status),
            unary(_SERVICE + "AuthDisable", self._header_only(rpc.AuthDisableRequest)),
            unary(_SERVICE + "UserList", self._header_only(rpc.AuthUserListRequest)),
            unary(_SERVICE + "RoleList", self._header_only(rpc.AuthRoleListRequest)),
            unary(_SERVICE + "UserAdd", self.user_add),
            unary(_SERVICE + "RoleAdd", self.role_add),
            *(unary(_SERVICE + name, _refusing(kind, error)) for name, kind, error in _REFUSALS),
        ]

    def status(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.AuthStatusRequest, data)
        body = rpc.AuthStatusResponse(enabled=False, authRevision=_FIRST_AUTH_REVISION)
        call.reply(self._encoder.header(self._store.revision) + body.SerializeToString())

    def user_add(self, data: bytes, call: Call) -> None:
        raise UsersNotKept if decode.parse(rpc.AuthUserAddRequest, data).name else UserEmpty

    def role_add(self, data: bytes, call: Call) -> None:
        raise UsersNotKept if decode.parse(rpc.AuthRoleAddRequest, data).name else RoleEmpty

    def _header_only(self, kind: type[Message]) -> UnaryHandler:
        def handler(data: bytes, call: Call) -> None:
            decode.parse(kind, data)
            call.reply(self._encoder.header(self._store.revision))

        return handler


def _refusing(kind: type[Message], error: type[BrainError]) -> Callable[[bytes, Call], None]:
    def handler(data: bytes, call: Call) -> None:
        decode.parse(kind, data)
        raise error

    return handler
