"""What clients ask for with Impersonate-*, and what they must be allowed for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.identity import impersonation_headers
from wharf.gateway.impersonation import Access, BadImpersonation, accesses, effective_user, parse_impersonation
from wharf.gateway.user import User

ALL = [
    (b"accept", b"*/*"),
    (b"impersonate-user", b"jane"),
    (b"impersonate-group", b"dev"),
    (b"impersonate-group", b"ops"),
    (b"impersonate-uid", b"u1"),
    (b"impersonate-extra-scopes", b"a"),
    (b"impersonate-extra-scopes", b"b"),
    (b"impersonate-extra-acme.com%2fproject", b"p"),
]
JANE = User("jane", ("dev", "ops"), "u1", {"scopes": ("a", "b"), "acme.com/project": ("p",)})


def test_edge_10_everything_asked_for_is_read_and_written_anew() -> None:
    assert parse_impersonation(ALL) == JANE
    assert parse_impersonation(impersonation_headers(JANE)) == JANE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"accept", b"*/*")],
        [(b"impersonate", b"x"), (b"x-impersonate-user", b"x")],
        [(b"impersonate-user", b"")],
        [(b"impersonate-user", b""), (b"impersonate-uid", b"")],
    ],
)
def test_nobody_is_asked_for(headers: list[tuple[bytes, bytes]]) -> None:
    assert parse_impersonation(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"impersonate-foo", b"x")],
        [(b"impersonate-user", b"jane"), (b"impersonate-foo", b"x")],
        [(b"impersonate_user", b"jane")],
        [(b"impersonate_foo", b"jane")],
        [(b"impersonate-user", b"jane"), (b"impersonate-user", b"bob")],
        [(b"impersonate-user", b""), (b"impersonate-user", b"bob")],
        [(b"impersonate-user", b"jane"), (b"impersonate-uid", b"1"), (b"impersonate-uid", b"2")],
        [(b"impersonate-user", b"jane"), (b"impersonate-group", b"")],
        [(b"impersonate-user", b"jane"), (b"impersonate-extra-", b"x")],
        [(b"impersonate-group", b"system:masters")],
        [(b"impersonate-uid", b"1")],
        [(b"impersonate-extra-a", b"x")],
        [(b"impersonate-user", b"\xff")],
        [(b"impersonate-user", b"jane"), (b"impersonate-extra-%ff", b"x")],
        [(b"impersonate-user", b"a\r\nimpersonate-group: x")],
        [(b"impersonate-user", b" jane")],
    ],
)
def test_edge_01_what_means_nothing_or_two_things_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadImpersonation):
        parse_impersonation(headers)


@pytest.mark.parametrize(("escaped", "key"), [(b"a%2fb", "a/b"), (b"a%zz", "a%zz"), (b"a%4", "a%4"), (b"%41", "A")])
def test_extra_keys_are_unescaped_where_they_can_be(escaped: bytes, key: str) -> None:
    wanted = parse_impersonation([(b"impersonate-user", b"jane"), (b"impersonate-extra-" + escaped, b"x")])
    assert wanted == User("jane", extra={key: ("x",)})


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in ALL] + [b"impersonate-extra-%"]), st.binary())))
def test_what_is_read_is_said_again_without_a_change(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        wanted = parse_impersonation(headers)
    except BadImpersonation:
        return
    if wanted is not None:
        assert parse_impersonation(impersonation_headers(wanted)) == wanted


def test_each_name_is_authorised_as_kube_apiserver_does() -> None:
    assert list(accesses(JANE)) == [
        Access("users", "jane"),
        Access("uids", "u1", "authentication.k8s.io"),
        Access("groups", "dev"),
        Access("groups", "ops"),
        Access("userextras", "a", "authentication.k8s.io", subresource="scopes"),
        Access("userextras", "b", "authentication.k8s.io", subresource="scopes"),
        Access("userextras", "p", "authentication.k8s.io", subresource="acme.com/project"),
    ]


def test_service_accounts_are_authorised_by_namespace_and_name() -> None:
    assert list(accesses(User("system:serviceaccount:ns:robot"))) == [
        Access("serviceaccounts", "robot", namespace="ns")
    ]
    assert list(accesses(User("system:serviceaccount:ns:a:b"))) == [Access("users", "system:serviceaccount:ns:a:b")]


@pytest.mark.parametrize(
    ("wanted", "groups"),
    [
        (User("jane"), ("system:authenticated",)),
        (User("jane", ("dev",)), ("dev", "system:authenticated")),
        (User("jane", ("system:authenticated", "dev")), ("system:authenticated", "dev")),
        (User("jane", ("system:unauthenticated",)), ("system:unauthenticated",)),
        (User("system:anonymous"), ("system:unauthenticated",)),
        (
            User("system:serviceaccount:ns:robot"),
            ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
        ),
        (User("system:serviceaccount:ns:robot", ("x",)), ("x", "system:authenticated")),
    ],
)
def test_edge_04_an_impersonated_user_has_the_groups_of_its_kind(wanted: User, groups: tuple[str, ...]) -> None:
    assert effective_user(wanted).groups == groups
