"""A request finds its cluster by Host, by address, and finds none by anything else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.cluster.names import CACHE_MAX, Claim, Names, is_address, parse_authority

NAMES = Names(
    [
        Claim("a", ("a", "a.example.org"), (ip_address("10.0.0.5"), ip_address("fd00::5"))),
        Claim("b", ("b", "*.b.example.org")),
    ]
)


@pytest.mark.parametrize(
    ("authority", "cluster"),
    [
        (b"a", "a"),
        (b"A.Example.ORG:6443", "a"),
        (b"a.example.org.", "a"),
        (b"x.b.example.org", "b"),
        (b"y.x.b.example.org", None),
        (b"b.example.org", None),
        (b"10.0.0.5:6443", "a"),
        (b"[fd00::5]:6443", "a"),
        (b"[FD00:0:0::5]", "a"),
        (b"10.0.0.6", None),
        (b"", None),
        (b"a:port", None),
        (b"user@a", None),
        (b"a,b", None),
        (b"\xff", None),
        (b"[a]", None),
        (b"[fd00::5", None),
    ],
)
def test_a_host_names_a_cluster(authority: bytes, cluster: str | None) -> None:
    assert NAMES.by_authority(authority) == cluster
    assert NAMES.by_authority(authority) == cluster, "the second time from the cache"


@pytest.mark.parametrize(
    ("local", "cluster"), [("10.0.0.5:6443", "a"), ("[fd00::5]:1", "a"), ("127.0.0.1:6443", None), ("@", None)]
)
def test_an_address_stands_for_a_cluster(local: str, cluster: str | None) -> None:
    assert NAMES.by_address(local) == cluster
    assert Names([Claim("b", ("b",))]).by_address(local) is None


def test_the_first_claim_counts() -> None:
    assert Names([Claim("a", ("x",)), Claim("b", ("x",))]).by_authority(b"x") == "a"


def test_nobody_takes_the_clients_of_an_address_by_claiming_its_last_bytes_as_a_domain() -> None:
    claims = [Claim("thief", ("*.0.0.5", "*.0.0.1", "10.0.0.5")), Claim("a", ("a",), (ip_address("10.0.0.5"),))]
    names = Names(claims)
    assert names.by_authority(b"10.0.0.5:6443") == "a"
    assert names.by_authority(b"127.0.0.1") is None
    assert names.by_authority(b"x.0.0.5") == "thief", "a name, if an odd one"


def test_invented_authorities_do_not_grow_the_index() -> None:
    names = Names([Claim("b", ("*.b",))])
    for number in range(CACHE_MAX + 10):
        assert names.by_authority(b"n%d.b" % number) == "b"
        assert names.by_authority(b"n%d.c" % number) is None
    assert len(names._cache) <= CACHE_MAX


@given(st.binary(max_size=40))
def test_any_bytes_are_a_host_or_none(authority: bytes) -> None:
    host = parse_authority(authority)
    assert host is None or (host == host.lower() and " " not in host and "/" not in host)


@pytest.mark.parametrize(
    ("authority", "is_one"), [(b"1.2.3.4:5", True), (b"[::1]", True), (b"a.b", False), (b"", False)]
)
def test_addresses_are_told_from_names(authority: bytes, is_one: bool) -> None:
    assert is_address(authority) is is_one


def test_long_spellings_of_a_name_are_understood_and_not_remembered() -> None:
    names = Names([Claim("a", ("a", "*.b"))])
    for authority in (b"a:" + b"0" * 10_000, b"a" + b"." * 10_000, b"x" * 10_000 + b".b"):
        assert names.by_authority(authority) == "a"
    assert not names._cache
    assert names.by_authority(b"a:6443") == "a"
    assert list(names._cache) == [b"a:6443"]
