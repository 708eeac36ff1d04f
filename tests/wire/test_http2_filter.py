"""HeaderFilter: what a proxy drops, checked against the same rules written plainly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire.web import Header
from wharf.wire.web_h2 import HeaderFilter

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
IDENTITY = HeaderFilter([b"x-forwarded-client-cert", b"host"], [b"x-remote-", b"impersonate-"])


def plain(name: bytes) -> bytes:
    """How names are compared."""
    return name.lower().replace(b"_", b"-")


def expected(headers: list[Header], names: set[bytes], prefixes: set[bytes]) -> list[Header]:
    """What passes, said slowly."""
    named: set[bytes] = set()
    for name, value in headers:
        if plain(name) == b"connection":
            named |= {plain(option.strip(b" \t")) for option in value.split(b",")}
    named -= {b"content-length", b"host", b"te"}
    kept = []
    for name, value in headers:
        normal = plain(name)
        dropped = (
            normal == b""
            or normal in HOP_BY_HOP | {plain(one) for one in names} | named
            or any(normal.startswith(plain(prefix)) for prefix in prefixes)
            or (normal == b"te" and value.lower() != b"trailers")
        )
        if not dropped:
            kept.append((name, value))
    return kept


def words(alphabet: bytes, low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from([bytes([one]) for one in alphabet]), min_size=low, max_size=high).map(b"".join)


name = st.one_of(
    words(b"abX-_t", 1, 4), st.sampled_from([*sorted(HOP_BY_HOP), b"te", b"TE", b"host", b"Content_Length"])
)
value = st.one_of(words(b"abX-_t, \t", 0, 8), st.sampled_from([b"trailers", b"Trailers", b"close, a", b"te,host"]))


@given(st.lists(st.tuples(name, value), max_size=12), st.sets(name, max_size=6), st.sets(name, max_size=4))
@settings(max_examples=500, deadline=None)
def test_it_agrees_with_the_plain_rules(headers: list[Header], names: set[bytes], prefixes: set[bytes]) -> None:
    assert HeaderFilter(names, prefixes).apply(headers) == expected(headers, names, prefixes)


@given(st.binary(min_size=1, max_size=12), st.sets(st.binary(min_size=1, max_size=6), max_size=8))
@settings(max_examples=300, deadline=None)
def test_it_takes_any_bytes(probe: bytes, names: set[bytes]) -> None:
    chosen = HeaderFilter(names, names)
    normal = plain(probe)
    starts = any(normal.startswith(plain(one)) for one in names)
    assert chosen.keeps(probe) == (not starts and normal not in HOP_BY_HOP and normal != b"te")


@pytest.mark.parametrize(
    "forged",
    [
        b"X-Remote-User",
        b"x_remote_user",
        b"X-REMOTE_Extra-a",
        b"Impersonate-Uid",
        b"impersonate_group",
        b"X_Forwarded-Client-Cert",
    ],
)
def test_edge_01_identity_headers_are_dropped_however_they_are_spelt(forged: bytes) -> None:
    assert not IDENTITY.keeps(forged)
    assert IDENTITY.apply([(forged, b"root"), (b"accept", b"*/*")]) == [(b"accept", b"*/*")]


@pytest.mark.parametrize(
    "name", [b"x-remote", b"remote-user", b"impersonated", b"x-forwarded-for", b"user-agent", b"audit-id"]
)
def test_neighbours_of_dropped_names_pass(name: bytes) -> None:
    assert IDENTITY.keeps(name)


@pytest.mark.parametrize(
    "connection",
    [
        [b"x-kept-user"],
        [b"close,  X-Kept-User\t, foo"],
        [b"close", b" x_kept_user "],
        [b",,X-KEPT-USER,"],
    ],
)
def test_edge_02_what_connection_names_is_dropped(connection: list[bytes]) -> None:
    headers = [(b"x-kept-user", b"1"), *((b"connection", one) for one in connection), (b"x-kept-other", b"2")]
    assert IDENTITY.apply(headers) == [(b"x-kept-other", b"2")]


def test_edge_02_connection_cannot_drop_what_frames_or_routes_the_request() -> None:
    named = [(b"connection", b"content-length, te"), (b"content-length", b"3"), (b"te", b"trailers")]
    assert IDENTITY.apply(named) == named[1:]


def test_edge_17_te_passes_only_as_trailers() -> None:
    assert IDENTITY.apply([(b"te", b"gzip"), (b"te", b"Trailers"), (b"TE", b"trailers, deflate")]) == [
        (b"te", b"Trailers")
    ]


def test_order_repeats_and_empty_values_are_kept() -> None:
    headers = [(b"warning", b"a"), (b"b", b""), (b"warning", b"c"), (b"x-stream-protocol-version", b"v4, v5")]
    assert IDENTITY.apply(headers) == headers


def test_an_empty_name_is_no_name() -> None:
    with pytest.raises(ValueError, match="empty"):
        HeaderFilter([b""])
