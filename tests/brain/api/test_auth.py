"""etcdserverpb.Auth: what it keeps, what it answers, and whom it lets in."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from brain.api.authkit import Users, both, read
from brain.api.harness import AUTH, KV, Server, run
from google.protobuf.message import Message
from wharf.brain.api.pb import authpb, rpc
from wharf.brain.auth.rules import Rules
from wharf.brain.auth.shapes import ROOT, Access, Permission, Role
from wharf.brain.errors import (
    AuthFailed,
    AuthNotEnabled,
    BrainError,
    InvalidAuthManagement,
    InvalidAuthToken,
    NoPasswordUser,
    PermissionDenied,
    PermissionNotGiven,
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

CHANGE_PASSWORD = "UserChangePassword"
UNKNOWN_ACCESS = authpb.Permission(key=b"k")
UNKNOWN_ACCESS.MergeFromString(b"\x08\x07")


def test_a_fresh_store_has_no_users_and_asks_nobody() -> None:
    async def scenario(server: Server) -> None:
        status = await server.client.ask(AUTH + "AuthStatus", rpc.AuthStatusRequest(), rpc.AuthStatusResponse)
        assert (status.enabled, status.authRevision, status.header.revision) == (False, 1, 1)
        users = await server.client.ask(AUTH + "UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse)
        roles = await server.client.ask(AUTH + "RoleList", rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse)
        assert (list(users.users), list(roles.roles)) == ([], [])
        await Users(server).client().ask(KV + "Put", rpc.PutRequest(key=b"k"), rpc.PutResponse)

    run(scenario)


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        ("AuthEnable", rpc.AuthEnableRequest(), RootUserNotExist),
        ("Authenticate", rpc.AuthenticateRequest(name="u", password="pw"), AuthNotEnabled),
        ("UserAdd", rpc.AuthUserAddRequest(), UserEmpty),
        ("UserAdd", rpc.AuthUserAddRequest(name="u", password="pw"), UserExists),
        ("UserGet", rpc.AuthUserGetRequest(name="x"), UserNotFound),
        ("UserDelete", rpc.AuthUserDeleteRequest(name="x"), UserNotFound),
        (CHANGE_PASSWORD, rpc.AuthUserChangePasswordRequest(name="x", password="p"), UserNotFound),
        (CHANGE_PASSWORD, rpc.AuthUserChangePasswordRequest(name="u", hashedPassword="h"), InvalidAuthManagement),
        ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="x", role="u"), UserNotFound),
        ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="u", role="x"), RoleNotFound),
        ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="x", role="u"), UserNotFound),
        ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="u", role="x"), RoleNotGranted),
        ("RoleAdd", rpc.AuthRoleAddRequest(), RoleEmpty),
        ("RoleAdd", rpc.AuthRoleAddRequest(name="u"), RoleExists),
        ("RoleGet", rpc.AuthRoleGetRequest(role="x"), RoleNotFound),
        ("RoleDelete", rpc.AuthRoleDeleteRequest(role="x"), RoleNotFound),
        ("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="u"), PermissionNotGiven),
        ("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="u", perm=read(b"")), InvalidAuthManagement),
        ("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="x", perm=read(b"k")), RoleNotFound),
        ("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="u", key=b"x"), PermissionNotGranted),
    ],
)
def test_refusals(method: str, request_: Message, error: type[BrainError]) -> None:
    async def scenario(server: Server) -> None:
        await Users(server).add("u")
        assert await server.client.refused(AUTH + method, request_) == (error.code, error.text)

    run(scenario)


def test_a_permission_of_an_unknown_type_is_kept_and_grants_nothing() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.add("u", read(b"a"))
        await users.do("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="u", perm=UNKNOWN_ACCESS))
        role = await server.client.ask(AUTH + "RoleGet", rpc.AuthRoleGetRequest(role="u"), rpc.AuthRoleGetResponse)
        assert [(perm.key, perm.permType) for perm in role.perm] == [(b"a", authpb.Permission.READ), (b"k", 7)]
        rules = Rules(server.api.auth.state.users, server.api.auth.state.roles)
        rules.require("u", Access.READ, b"a")
        for access in (Access.READ, Access.WRITE):
            with pytest.raises(PermissionDenied):
                rules.require("u", access, b"k")

    run(scenario)


def test_enabling_needs_the_root_user_to_have_the_root_role() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.do("UserAdd", rpc.AuthUserAddRequest(name=ROOT, password="pw"))
        refusal = await server.client.refused(AUTH + "AuthEnable", rpc.AuthEnableRequest())
        assert refusal == (RootRoleNotExist.code, RootRoleNotExist.text)
        await users.do("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=ROOT, role=ROOT))
        await users.do("AuthEnable", rpc.AuthEnableRequest())
        for method, request in (
            ("UserDelete", rpc.AuthUserDeleteRequest(name=ROOT)),
            ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name=ROOT, role=ROOT)),
        ):
            found = await server.client.refused(AUTH + method, request)
            assert found == (InvalidAuthManagement.code, InvalidAuthManagement.text)

    run(scenario)


def test_users_roles_and_permissions_are_kept_and_shown() -> None:
    async def scenario(server: Server) -> None:
        users, ask = Users(server), server.client.ask
        await users.add("b", both(b"k", b"l"), read(b"a"))
        await users.add("a")
        await users.do("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="b", role="a"))
        listed = await ask(AUTH + "UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse)
        assert list(listed.users) == ["a", "b"]
        user = await ask(AUTH + "UserGet", rpc.AuthUserGetRequest(name="b"), rpc.AuthUserGetResponse)
        assert list(user.roles) == ["a", "b"]
        role = await ask(AUTH + "RoleGet", rpc.AuthRoleGetRequest(role="b"), rpc.AuthRoleGetResponse)
        assert list(role.perm) == [read(b"a"), both(b"k", b"l")]
        await users.do("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="b", key=b"a"))
        await users.do("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="b", role="a"))
        await users.do("RoleDelete", rpc.AuthRoleDeleteRequest(role="a"))
        await users.do("UserDelete", rpc.AuthUserDeleteRequest(name="a"))
        state = server.api.auth.state
        assert state.roles == {"b": Role("b", (Permission(Access.READWRITE, b"k", b"l"),))}
        assert {name: user.roles for name, user in state.users.items()} == {"b": ("b",)}
        await users.do("RoleAdd", rpc.AuthRoleAddRequest(name=ROOT))
        role = await ask(AUTH + "RoleGet", rpc.AuthRoleGetRequest(role=ROOT), rpc.AuthRoleGetResponse)
        assert list(role.perm) == [both(b"", b"\0")]

    run(scenario)


def test_every_change_is_a_revision_of_its_own() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.enable()
        assert server.api.auth.state.revision == 4  # user, role, grant; enabling is not counted, as in etcd
        await users.do("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=ROOT, role=ROOT))
        assert server.api.auth.state.revision == 4
        await users.do("AuthDisable", rpc.AuthDisableRequest())
        await users.do("AuthDisable", rpc.AuthDisableRequest())
        assert server.api.auth.state.revision == 5
        assert server.node.store.revision == 1  # no key has changed

    run(scenario)


def test_changes_asked_for_at_once_do_not_undo_each_other() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        names = [f"u{number}" for number in range(20)]
        await asyncio.gather(*(users.do("RoleAdd", rpc.AuthRoleAddRequest(name=name)) for name in names))
        assert set(server.api.auth.state.roles) == set(names)

    run(scenario)


def test_a_password_lets_in_and_a_wrong_one_does_not(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.enable()
        await users.do("UserAdd", rpc.AuthUserAddRequest(name="cert", options=authpb.UserAddOptions(no_password=True)))
        client = users.client()
        for name, password, error in (
            (ROOT, "wrong-secret", AuthFailed),
            (ROOT, "", AuthFailed),
            ("nobody", "pw", AuthFailed),
            ("cert", "pw", NoPasswordUser),
        ):
            request = rpc.AuthenticateRequest(name=name, password=password)
            assert await client.refused(AUTH + "Authenticate", request) == (error.code, error.text)
        await users.enter(ROOT)

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    assert "a user was refused" in caplog.text
    assert "wrong-secret" not in str([vars(record) for record in caplog.records])


def test_a_password_that_is_changed_lets_in_alone() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.enable()
        await users.add("u")
        before = await users.enter("u")
        own = rpc.AuthUserGetRequest(name="u")
        await before.ask(AUTH + "UserGet", own, rpc.AuthUserGetResponse)
        await users.do(CHANGE_PASSWORD, rpc.AuthUserChangePasswordRequest(name="u", password="new"))
        assert await before.refused(AUTH + "UserGet", own) == (InvalidAuthToken.code, InvalidAuthToken.text)
        request = rpc.AuthenticateRequest(name="u", password="pw")
        assert (await users.client().refused(AUTH + "Authenticate", request))[1] == AuthFailed.text
        await (await users.enter("u", "new")).ask(AUTH + "UserGet", own, rpc.AuthUserGetResponse)
        await users.do(CHANGE_PASSWORD, rpc.AuthUserChangePasswordRequest(name="u"))
        for password in ("new", ""):
            request = rpc.AuthenticateRequest(name="u", password=password)
            assert (await users.client().refused(AUTH + "Authenticate", request))[1] == AuthFailed.text

    run(scenario)


def test_who_is_changed_while_the_password_is_looked_at_is_looked_at_again() -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.enable()
        await users.add("u")
        entering = server.client.start(AUTH + "Authenticate", rpc.AuthenticateRequest(name="u", password="pw"))
        book = server.api.auth
        book.state = replace(book.state, users={name: each for name, each in book.state.users.items() if name != "u"})
        await entering.ended.wait()
        assert (entering.code, entering.text) == (AuthFailed.code, AuthFailed.text)

    run(scenario)


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: Server) -> None:
        users = Users(server)
        await users.enable()
        await users.add("u", password="hunter2")
        token = await users.token("u", "hunter2")
        key = server.api.auth.state.key
        logged = str([vars(record) for record in caplog.records])
        seen = "".join((logged, repr(server.api.auth.state), repr(server.api.auth.state.users["u"])))
        assert "AddUser" in seen
        for secret in ("hunter2", token, repr(key), "scrypt"):
            assert secret not in seen

    with caplog.at_level(logging.DEBUG):
        run(scenario)
