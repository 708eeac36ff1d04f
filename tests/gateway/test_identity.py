"""What arrives upstream under identity names is exactly what the gateway wrote."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.shapes import IdentityMode
from wharf.gateway.identity import (
    STRIPPED_NAMES,
    STRIPPED_PREFIXES,
    IdentityError,
    escape_key,
    front_proxy_headers,
    identity_headers,
    impersonation_headers,
)
from wharf.gateway.user import ANONYMOUS, UNKNOWN, User
from wharf.wire.web import Header

JANE = User("jane", ("dev", "system:authenticated"), "u1", {"scopes.example.org/a": ("x", "y"), "plain": ("",)})

NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text == text.strip(" "))
KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
USER = st.builds(
    User,
    NAME,
    st.lists(NAME).map(tuple),
    st.just("") | NAME,
    st.dictionaries(KEY, st.lists(st.just("") | NAME).map(tuple)),
)


def read_as_kube_apiserver(headers: tuple[Header, ...], prefix: str) -> User:
    """The user that kube-apiserver reads: names folded and unescaped, values as they are."""
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    for raw_key, raw in headers:
        key, value = raw_key.decode("ascii").lower().removeprefix(prefix), raw.decode()
        if key == "user":
            name = value
        elif key == "uid":
            uid = value
        elif key == "group":
            groups.append(value)
        else:
            assert key.startswith("extra-")
            extra_key = unquote(key.removeprefix("extra-"), errors="strict")
            extra[extra_key] = (*extra.get(extra_key, ()), value)
    return User(name, tuple(groups), uid, extra)


def test_edge_04_every_group_is_sent_in_order() -> None:
    assert front_proxy_headers(JANE) == (
        (b"x-remote-user", b"jane"),
        (b"x-remote-uid", b"u1"),
        (b"x-remote-group", b"dev"),
        (b"x-remote-group", b"system:authenticated"),
        (b"x-remote-extra-scopes.example.org%2fa", b"x"),
        (b"x-remote-extra-scopes.example.org%2fa", b"y"),
        (b"x-remote-extra-plain", b""),
    )


def test_edge_04_anonymous_is_said_by_its_name() -> None:
    assert front_proxy_headers(ANONYMOUS) == (
        (b"x-remote-user", b"system:anonymous"),
        (b"x-remote-group", b"system:unauthenticated"),
    )


def test_impersonation_says_the_same_in_other_words() -> None:
    spelled = tuple((name.replace(b"impersonate-", b"x-remote-"), value) for name, value in impersonation_headers(JANE))
    assert spelled == front_proxy_headers(JANE)
    assert identity_headers(JANE, IdentityMode.IMPERSONATION) == impersonation_headers(JANE)
    assert identity_headers(JANE, IdentityMode.FRONT_PROXY) == front_proxy_headers(JANE)


def test_edge_05_the_uid_is_left_out_for_old_servers() -> None:
    assert (b"x-remote-uid", b"u1") not in front_proxy_headers(JANE, uid=False)


@pytest.mark.parametrize(
    ("key", "escaped"),
    [
        ("scopes", b"scopes"),
        ("Scopes", b"%53copes"),
        ("a/b c%d", b"a%2fb%20c%25d"),
        ("a:b", b"a%3ab"),
        ("é", b"%c3%a9"),
        ("a\r\nb", b"a%0d%0ab"),
        ("authentication.kubernetes.io/pod-name", b"authentication.kubernetes.io%2fpod-name"),
    ],
)
def test_edge_05_extra_keys_are_escaped(key: str, escaped: bytes) -> None:
    assert escape_key(key) == escaped


@pytest.mark.parametrize(
    "name", ["a\r\nx-remote-group: system:masters", "a\0", "a\tb", "\x7f", " a", "a ", "\ud800", "a\n"]
)
def test_edge_03_names_that_could_split_or_change_are_refused(name: str) -> None:
    for user in (User(name), User("a", (name,)), User("a", uid=name), User("a", extra={"k": (name,)})):
        with pytest.raises(IdentityError):
            front_proxy_headers(user)
        with pytest.raises(IdentityError):
            impersonation_headers(user)


@pytest.mark.parametrize("user", [UNKNOWN, User(""), User("a", extra={"": ("x",)})])
def test_edge_03_without_a_user_nothing_is_vouched_for(user: User) -> None:
    with pytest.raises(IdentityError):
        front_proxy_headers(user)


@given(USER)
def test_edge_05_the_upstream_reads_the_very_same_user(user: User) -> None:
    extra = {key: values for key, values in user.extra.items() if values}
    expected = User(user.name, user.groups, user.uid, extra)
    assert read_as_kube_apiserver(front_proxy_headers(user), "x-remote-") == expected
    assert read_as_kube_apiserver(impersonation_headers(user), "impersonate-") == expected


@given(st.text(), st.text(), st.text(), st.text(min_size=1))
def test_whatever_a_name_is_made_of_headers_stay_whole(name: str, group: str, uid: str, key: str) -> None:
    try:
        headers = front_proxy_headers(User(name, (group,), uid, {key: (name,)}))
    except IdentityError:
        return
    for header, value in headers:
        assert header == header.lower()
        assert not set(header) & set(b" :\r\n\0/%" if b"extra-" not in header else b" :\r\n\0/")
        assert not set(value) & set(b"\r\n\0")


def test_edge_01_everything_that_could_be_an_identity_is_on_the_list() -> None:
    assert {b"x-remote-", b"impersonate-"} <= set(STRIPPED_PREFIXES)
    assert b"x-forwarded-client-cert" in STRIPPED_NAMES
    for header, _ in (*front_proxy_headers(JANE), *impersonation_headers(JANE)):
        assert header.startswith(STRIPPED_PREFIXES)
