"""Permissions over key ranges, against counting keys one by one."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth.rules import Coverage, Interval, Rules, interval, is_valid_range
from wharf.brain.auth.shapes import ROOT, Access, Permission, Role, User
from wharf.brain.errors import BrainError, PermissionDenied, UserEmpty, UserNotFound
from wharf.brain.store.shapes import Compare, CompareResult, CompareTarget, DeleteOp, Op, PutOp, RangeOp, TxnOp

ALPHABET = (0, 1, 2)
KEYS = sorted(bytes(letters) for length in range(1, 4) for letters in product(ALPHABET, repeat=length))
READ, WRITE, READWRITE = Access.READ, Access.WRITE, Access.READWRITE

keys = st.sampled_from([key for key in KEYS if len(key) < 3])
permissions = st.lists(
    st.builds(Permission, st.sampled_from(Access), keys, st.one_of(st.just(b""), keys)).filter(
        lambda each: is_valid_range(each.key, each.range_end)
    ),
    max_size=6,
)


def inside(key: bytes, where: Interval) -> bool:
    begin, end = where
    return begin <= key and (end is None or key < end)


def rules(*granted: Permission, user: str = "u") -> Rules:
    return Rules({user: User(user, roles=("r",))}, {"r": Role("r", granted)})


def allows(found: Rules, access: Access, key: bytes, range_end: bytes = b"") -> bool:
    try:
        found.require("u", access, key, range_end)
    except PermissionDenied:
        return False
    return True


@given(permissions, keys, st.one_of(st.just(b""), keys), st.sampled_from((READ, WRITE)))
def test_a_range_is_permitted_if_every_key_in_it_is(
    granted: list[Permission], key: bytes, range_end: bytes, access: Access
) -> None:
    asked = interval(key, range_end)
    wanted = [each for each in KEYS if inside(each, asked)] or [key]
    counting = [each for each in granted if (each.reads if access is READ else each.writes)]
    permitted = all(any(inside(each, interval(one.key, one.range_end)) for one in counting) for each in wanted)
    if asked[1] is None:  # no list of keys reaches the end
        permitted = permitted and any(one.range_end == b"\0" for one in counting)
    assert allows(rules(*granted), access, key, range_end) is permitted


@given(st.lists(st.tuples(keys, st.one_of(st.none(), keys)), max_size=8), keys)
def test_a_key_is_covered_if_some_range_has_it(intervals: list[Interval], key: bytes) -> None:
    assert Coverage(intervals).covers(key, key + b"\0") is any(inside(key, each) for each in intervals)


def test_ranges_that_touch_are_one() -> None:
    found = rules(Permission(READ, b"a", b"m"), Permission(READWRITE, b"m", b"z"))
    assert allows(found, READ, b"b", b"y")
    assert not allows(found, WRITE, b"b", b"y")
    assert not allows(found, READ, b"b", b"z\0")
    assert not allows(rules(Permission(READ, b"a", b"m"), Permission(READ, b"m\0", b"z")), READ, b"b", b"y")


def test_only_an_open_end_reaches_the_end() -> None:
    assert not allows(rules(Permission(READ, b"a", b"\xff" * 9)), READ, b"a", b"\0")
    assert allows(rules(Permission(READ, b"a", b"\0")), READ, b"b", b"\0")
    assert not allows(rules(Permission(READ, b"a", b"\0")), READ, b"Z", b"\0")
    assert allows(rules(Permission(READ, b"\0", b"\0")), READ, b"\0", b"\0")


@pytest.mark.parametrize(
    ("key", "range_end", "valid"),
    [
        (b"", b"", False),
        (b"", b"\0", False),
        (b"a", b"", True),
        (b"a", b"b", True),
        (b"b", b"a", False),
        (b"a", b"a", False),
        (b"a", b"\0", True),
        (b"\0", b"\0", True),
    ],
)
def test_what_may_be_granted(key: bytes, range_end: bytes, valid: bool) -> None:
    assert is_valid_range(key, range_end) is valid


def test_root_may_do_everything_and_nobody_nothing() -> None:
    found = Rules({"boss": User("boss", roles=(ROOT,)), "u": User("u", roles=("gone",))}, {})
    found.require("boss", WRITE, b"a", b"\0")
    found.require_root("boss")
    found.require_somebody("u")
    for who, error in (
        (None, UserEmpty),
        ("stranger", PermissionDenied),
        ("", PermissionDenied),
        ("u", PermissionDenied),
    ):
        with pytest.raises(error):
            found.require(who, READ, b"a")
    for who, refusal in ((None, UserEmpty), ("", UserEmpty), ("stranger", UserNotFound), ("u", PermissionDenied)):
        with pytest.raises(refusal):
            found.require_root(who)
    with pytest.raises(UserEmpty):
        found.require_somebody(None)


R = Permission(READ, b"r")
W = Permission(WRITE, b"w")
RW = Permission(READWRITE, b"b")
IF_R, IF_W = (Compare(key, CompareTarget.VERSION, CompareResult.EQUAL, 0) for key in (b"r", b"w"))


@pytest.mark.parametrize(
    ("op", "permitted"),
    [
        (RangeOp(b"r"), True),
        (RangeOp(b"w"), False),
        (PutOp(b"w", b""), True),
        (PutOp(b"r", b""), False),
        (PutOp(b"w", b"", prev_kv=True), False),
        (PutOp(b"b", b"", prev_kv=True), True),
        (PutOp(b"b", b"", lease=1), True),
        (PutOp(b"b", b"", lease=2), False),
        (DeleteOp(b"w"), True),
        (DeleteOp(b"r"), False),
        (DeleteOp(b"w", prev_kv=True), False),
        (DeleteOp(b"b", prev_kv=True), True),
        (DeleteOp(b"b", b"c"), False),
        (TxnOp(), True),
        (TxnOp((IF_R,), (RangeOp(b"r"),), (PutOp(b"w", b""),)), True),
        (TxnOp((IF_W,)), False),
        (TxnOp((), (), (RangeOp(b"w"),)), False),
        (TxnOp((), (TxnOp((), (RangeOp(b"r"),)),)), True),
        (TxnOp((), (TxnOp((), (RangeOp(b"w"),)),)), False),
        (TxnOp((), (), (TxnOp((IF_W,)),)), False),
        (TxnOp((), (PutOp(b"w", b"", prev_kv=True),)), False),
        (TxnOp((), (PutOp(b"w", b"", lease=2),)), False),
    ],
)
def test_an_operation_needs_what_it_might_do(op: Op, permitted: bool) -> None:
    attached = {1: (b"b", b"w"), 2: (b"w", b"other")}
    refusal: type[BrainError] | None = None
    try:
        rules(R, W, RW).require_op("u", op, lambda lease: attached[lease])
    except BrainError as error:
        refusal = type(error)
    assert refusal is (None if permitted else PermissionDenied)


def test_roots_leases_are_not_looked_at() -> None:
    found = Rules({"boss": User("boss", roles=(ROOT,))}, {})
    found.require_op("boss", PutOp(b"k", b"", lease=1), lambda _: pytest.fail("asked for the keys of a lease"))
