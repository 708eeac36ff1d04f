"""Users and roles as stored bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth import records
from wharf.brain.auth.shapes import Access, AddRole, AddUser, DeleteUser, Operation, Permission, Role, User
from wharf.brain.auth.state import AuthState, apply

LMDB_KEY_MAX = 511

text = st.text()
users = st.builds(
    User, text, st.one_of(st.none(), text), st.lists(text, max_size=3).map(tuple), st.integers(0, 2**63 - 1)
)
roles = st.builds(
    Role,
    text,
    st.lists(st.builds(Permission, st.sampled_from(Access), st.binary(), st.binary()), max_size=4).map(tuple),
)


@given(users)
def test_a_user_comes_back(user: User) -> None:
    assert records.parse_user(records.encode_user(user)) == user


@given(roles)
def test_a_role_comes_back(role: Role) -> None:
    assert records.parse_role(records.encode_role(role)) == role


def test_names_of_any_length_have_a_key_of_their_own() -> None:
    names = ("n" * 256, "n" * 257, "n" * 258, "ü" * 400)
    state = AuthState()
    stored: dict[bytes, bytes | None] = {}
    operations: list[Operation] = [*map(AddUser, names), *map(AddRole, names)]
    for operation in operations:
        after = apply(state, operation)
        stored.update(records.changes(state, after))
        state = after
    assert len(stored) == 2 * len(names) + 1
    assert max(map(len, stored)) <= LMDB_KEY_MAX
    gone = dict(records.changes(state, apply(state, DeleteUser(names[3]))))
    assert [key for key, value in gone.items() if value is None] == [
        key for key, value in stored.items() if value and names[3].encode() in value and key.startswith(b"auth/user")
    ]


def test_nothing_stored_is_the_first_state() -> None:
    assert records.load({}) == AuthState()


@given(st.binary(max_size=40))
def test_damage_is_named(garbage: bytes) -> None:
    for key in (b"auth/user/x", b"auth/role/x", records.SWITCH):
        with pytest.raises(ValueError, match=key.decode()):
            records.load({key: b"[" + garbage})


@pytest.mark.parametrize("stored", [b"{}", b"7", b'{"name":1,"password":null,"roles":[],"since":1}'])
def test_fields_that_are_wrong_are_damage(stored: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        records.load({b"auth/user/x": stored})
