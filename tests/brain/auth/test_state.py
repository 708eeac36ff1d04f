"""What changes to users and roles make of a state, and when they are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth import records
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
    Role,
    SetPassword,
    User,
)
from wharf.brain.auth.state import AuthState, apply
from wharf.brain.errors import (
    BrainError,
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

KEY = b"k" * 32
ENABLED = (AddUser(ROOT, "h"), GrantRole(ROOT, ROOT), Enable(KEY))


def after(*operations: Operation, state: AuthState | None = None) -> AuthState:
    state = state or AuthState()
    for operation in operations:
        state = apply(state, operation)
    return state


@pytest.mark.parametrize(
    ("before", "operation", "error"),
    [
        ((), Enable(KEY), RootUserNotExist),
        ((AddUser(ROOT),), Enable(KEY), RootRoleNotExist),
        ((), AddUser(""), UserEmpty),
        ((AddUser("a"),), AddUser("a"), UserExists),
        ((), DeleteUser("a"), UserNotFound),
        (ENABLED, DeleteUser(ROOT), InvalidAuthManagement),
        ((), SetPassword("a", "h"), UserNotFound),
        ((), GrantRole("a", "r"), UserNotFound),
        ((AddUser("a"),), GrantRole("a", "r"), RoleNotFound),
        ((), RevokeRole("a", "r"), UserNotFound),
        ((AddUser("a"),), RevokeRole("a", "r"), RoleNotGranted),
        (ENABLED, RevokeRole(ROOT, ROOT), InvalidAuthManagement),
        ((), AddRole(""), RoleEmpty),
        ((AddRole("r"),), AddRole("r"), RoleExists),
        ((), DeleteRole("r"), RoleNotFound),
        (ENABLED, DeleteRole(ROOT), InvalidAuthManagement),
        ((), GrantPermission("r", Permission(Access.READ, b"")), InvalidAuthManagement),
        ((), GrantPermission("r", Permission(Access.READ, b"b", b"a")), InvalidAuthManagement),
        ((), GrantPermission("r", Permission(Access.READ, b"a")), RoleNotFound),
        ((), RevokePermission("r", b"a"), RoleNotFound),
        ((AddRole("r"),), RevokePermission("r", b"a"), PermissionNotGranted),
    ],
)
def test_refusals(before: Sequence[Operation], operation: Operation, error: type[BrainError]) -> None:
    with pytest.raises(error):
        apply(after(*before), operation)


def test_the_switch() -> None:
    enabled = after(*ENABLED)
    assert enabled.enabled
    assert enabled.key == KEY
    assert enabled.revision == 3  # as in etcd, enabling is not counted
    assert after(Enable(b"other"), state=enabled) is enabled
    disabled = after(Disable(), state=enabled)
    assert (disabled.enabled, disabled.revision) == (False, 4)
    assert after(Disable(), state=disabled) is disabled
    again = after(Enable(b"new"), state=disabled)
    assert (again.enabled, again.key) == (True, b"new")  # so every older token is void


def test_while_it_is_off_root_is_a_user_like_others() -> None:
    assert after(*ENABLED, Disable(), RevokeRole(ROOT, ROOT), DeleteUser(ROOT)).users == {}
    assert after(AddRole(ROOT), DeleteRole(ROOT)).roles == {}


def test_users_and_their_roles() -> None:
    state = after(AddUser("u", "h"), AddRole("b"), AddRole("a"), GrantRole("u", "b"), GrantRole("u", "a"))
    assert state.users == {"u": User("u", "h", ("a", "b"), since=2)}
    assert state.revision == 6
    assert after(GrantRole("u", "a"), state=state) is state
    assert after(RevokeRole("u", "b"), state=state).users["u"].roles == ("a",)
    assert after(GrantRole("u", ROOT), state=state).users["u"].is_root  # though no such role was added
    without = after(DeleteRole("a"), state=state)
    assert without.users["u"].roles == ("b",)
    assert set(without.roles) == {"b"}


def test_a_new_password_voids_what_was_before() -> None:
    state = after(AddUser("u", "h"), AddUser("cert"))
    changed = after(SetPassword("u", "new"), SetPassword("cert", "new"), state=state)
    assert changed.users["u"] == User("u", "new", since=state.revision + 1)
    assert changed.users["cert"].password is None


def test_permissions_are_replaced_for_the_same_keys_and_kept_in_order() -> None:
    grants = (
        GrantPermission("r", Permission(Access.READ, b"b")),
        GrantPermission("r", Permission(Access.READ, b"a", OPEN_END)),
        GrantPermission("r", Permission(Access.READ, b"a", b"c")),
        GrantPermission("r", Permission(Access.WRITE, b"a", b"c")),
    )
    state = after(AddRole("r"), *grants)
    assert sorted(state.roles["r"].permissions, key=lambda each: each.range_end) == [
        Permission(Access.READ, b"b"),
        Permission(Access.READ, b"a", OPEN_END),
        Permission(Access.WRITE, b"a", b"c"),
    ]
    assert [each.key for each in state.roles["r"].permissions] == [b"a", b"a", b"b"]
    left = after(RevokePermission("r", b"a", b"c"), state=state)
    assert Permission(Access.READ, b"a", OPEN_END) in left.roles["r"].permissions
    assert len(left.roles["r"].permissions) == 2


names = st.sampled_from(("root", "a", "b", ""))
ranges = st.sampled_from((b"", b"a", b"b", b"\0"))
operations = st.one_of(
    st.builds(Enable, st.binary(min_size=1, max_size=4)),
    st.just(Disable()),
    st.builds(AddUser, names, st.one_of(st.none(), st.text(max_size=3))),
    st.builds(DeleteUser, names),
    st.builds(SetPassword, names, st.text(max_size=3)),
    st.builds(GrantRole, names, names),
    st.builds(RevokeRole, names, names),
    st.builds(AddRole, names),
    st.builds(DeleteRole, names),
    st.builds(GrantPermission, names, st.builds(Permission, st.sampled_from(Access), ranges, ranges)),
    st.builds(RevokePermission, names, ranges, ranges),
)


@given(st.lists(operations, max_size=40))
def test_what_is_written_is_what_there_is(asked: list[Operation]) -> None:
    """Applied to the stored records, every change leaves exactly the state it made; refusals leave no trace."""
    state = AuthState()
    stored: dict[bytes, bytes] = {}
    for operation in asked:
        before = state
        try:
            state = apply(state, operation)
        except BrainError:
            continue
        for key, value in records.changes(before, state):
            assert key.startswith(records.PREFIX)
            if value is None:
                del stored[key]
            else:
                stored[key] = value
        assert records.load(stored) == state
        assert (state.revision, state.enabled) >= (before.revision, before.enabled)
        if state.enabled:
            assert state.users[ROOT].is_root
        for user in state.users.values():
            assert list(user.roles) == sorted(set(user.roles))


def test_equal_states_write_nothing() -> None:
    state = after(*ENABLED)
    assert list(records.changes(state, state)) == []
    assert state.roles == {}
    assert Role("r").permissions == ()
