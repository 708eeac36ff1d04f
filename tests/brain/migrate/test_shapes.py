"""What moves between stores, decided without any store."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from wharf.brain.migrate.progress import Bar, Lines, lag, readable
from wharf.brain.migrate.shapes import (
    LEAST_PAGE,
    MOST_PAGE,
    PAGE_BYTES,
    Assembler,
    Change,
    CutOver,
    Ending,
    Fingerprint,
    Gap,
    SourceLease,
    as_lease,
    next_limit,
    orphans,
)
from wharf.brain.store.ttl import MIN_TTL


@given(st.integers(1, MOST_PAGE), st.integers(0, MOST_PAGE), st.integers(0, 1 << 34))
def test_pages_stay_near_their_size(limit: int, keys: int, size: int) -> None:
    found = next_limit(limit, keys, size)
    if not keys:
        assert found == limit
        return
    assert LEAST_PAGE <= found <= max(MOST_PAGE, LEAST_PAGE)
    assert found <= max(4 * limit, LEAST_PAGE)
    if found > LEAST_PAGE:
        assert found * size <= PAGE_BYTES * keys


@given(st.integers(-5, 10**6), st.integers(-5, 10**6), st.integers(0, 1 << 40))
def test_a_lease_never_ends_earlier_than_at_the_source(granted: int, remaining: int, now: int) -> None:
    lease = as_lease(SourceLease(7, granted, min(remaining, granted)), now)
    assert lease.ttl == max(granted, MIN_TTL)
    assert lease.deadline > now
    assert lease.deadline - now >= 1000 * min(remaining, granted)
    assert lease.deadline - now <= 1000 * lease.ttl


def test_keys_of_an_ended_lease_get_a_short_one() -> None:
    assert orphans({5, 3, 9}, [SourceLease(3, 60, 10)]) == [SourceLease(5, 2, 2), SourceLease(9, 2, 2)]


@given(st.lists(st.binary(max_size=30), unique=True), st.randoms())
def test_fingerprints_do_not_depend_on_order(kvs: list[bytes], random: object) -> None:
    one, other = Fingerprint(), Fingerprint()
    for kv in kvs:
        one.add(kv)
    shuffled = sorted(kvs, key=lambda kv: kv[::-1])
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for kv in shuffled:
        other.add(kv)
    assert one == other
    other.add(b"one more")
    assert one != other


def test_fingerprints_tell_values_apart() -> None:
    one, other = Fingerprint(), Fingerprint()
    one.add(b"a")
    other.add(b"b")
    assert one != other
    assert str(one).startswith("1 keys, hash ")


@st.composite
def cut_up(
    draw: st.DrawFn,
) -> tuple[int, list[list[tuple[int, Change]]], list[list[tuple[list[tuple[int, Change]], bool]]]]:
    """(first revision, its transactions, the same as streams of responses with their fragment marks)."""
    last = draw(st.integers(1, 1 << 40))
    sizes = draw(st.lists(st.integers(1, 4), max_size=12))
    transactions = [
        [(last + 1 + at, Change(0, b"%d" % index, b"%d/%d" % (at, index))) for index in range(size)]
        for at, size in enumerate(sizes)
    ]
    responses = []
    for one, after in [*pairwise(transactions), *([(transactions[-1], None)] if transactions else [])]:
        pieces = []
        left = list(one)
        while left:
            take = draw(st.integers(1, len(left)))
            pieces.append(left[:take])
            left = left[take:]
        join = after is not None and draw(st.booleans())
        responses.append([(piece, at < len(pieces) - 1 or join) for at, piece in enumerate(pieces)])
    return last, transactions, responses


@given(cut_up())
def test_transactions_are_whole_however_they_come(
    case: tuple[int, list[list[tuple[int, Change]]], list[list[tuple[list[tuple[int, Change]], bool]]]],
) -> None:
    last, transactions, responses = case
    assembler = Assembler(last)
    found = [one for response in responses for events, fragment in response for one in assembler.feed(events, fragment)]
    assert [(one.revision, list(one.changes)) for one in found] == [
        (transaction[0][0], [change for _, change in transaction]) for transaction in transactions
    ]
    assert assembler.last == last + len(transactions)


def change(revision: int) -> tuple[int, Change]:
    return revision, Change(0, b"k", b"")


def test_a_missing_revision_is_noticed() -> None:
    assembler = Assembler(5)
    assert [one.revision for one in assembler.feed([change(6)], False)] == [6]
    with pytest.raises(Gap, match="revision 8 arrived where 7 was due"):
        assembler.feed([change(8)], False)


def test_what_was_handed_out_comes_once() -> None:
    assembler = Assembler(5)
    assert [one.revision for one in assembler.feed([change(4), change(5), change(6), change(7)], False)] == [6, 7]
    assert assembler.feed([change(6), change(7)], False) == []


def test_a_revision_to_stop_at() -> None:
    cut = CutOver(Ending(until=10))
    assert not cut.reached(9)
    assert cut.reached(10)
    cut.asked(12)
    assert cut.target == 10
    cut.asked(8)
    assert cut.target == 8
    assert "ends at revision 10" in cut.advice


def test_asked_to_stop_it_ends_where_the_source_is() -> None:
    cut = CutOver(Ending())
    assert cut.saw(5, 5, 0.0)
    assert not cut.reached(5)
    assert not cut.saw(5, 5, 100.0), "told once"
    cut.asked(7)
    assert not cut.reached(6)
    assert cut.reached(7)
    assert "Ctrl-C" in cut.advice


def test_it_ends_by_itself_once_the_source_stands_still() -> None:
    cut = CutOver(Ending(quiet=3.0))
    assert not cut.saw(6, 5, 0.0)
    assert cut.saw(6, 6, 1.0)
    cut.saw(7, 7, 3.9)
    cut.saw(7, 7, 6.8)
    assert cut.target is None
    cut.saw(8, 7, 6.85)
    cut.saw(8, 8, 6.9)
    cut.saw(8, 8, 9.9)
    assert cut.target == 8
    assert "by itself" in cut.advice


def test_under_writes_that_never_stop_it_has_caught_up_once_it_holds_what_the_last_look_saw() -> None:
    cut = CutOver(Ending(quiet=3.0))
    assert not cut.saw(100, 5, 0.0)
    assert not cut.saw(200, 99, 1.0), "behind what the source had a look ago"
    assert cut.saw(300, 200, 2.0)
    assert not cut.saw(400, 399, 3.0), "told once"
    cut.saw(500, 499, 9.0)
    assert cut.target is None, "it does not stand still"


def test_a_revision_and_a_quiet_source_end_it_whichever_is_first() -> None:
    cut = CutOver(Ending(until=10, quiet=1.0))
    cut.saw(8, 8, 0.0)
    cut.saw(8, 8, 1.0)
    assert cut.target == 8


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes_at_a_glance(size: int, text: str) -> None:
    assert readable(size) == text


def test_lag() -> None:
    assert lag(5, 9) == "following: revision 5, 4 behind"
    assert lag(9, 8) == "following: revision 9"


def test_a_bar_on_a_terminal() -> None:
    screen = StringIO()
    view = Bar(Console(file=screen, force_terminal=True, width=120))
    view.line("copying 2 keys [at] revision 7")
    view.copied("copying", 1, 2, 2048)
    view.following(7, 9)
    view.close()
    assert "copying 2 keys [at] revision 7" in screen.getvalue()
    assert "following: revision 7, 2 behind" in screen.getvalue()


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    view = Lines(sys.stdout)
    for keys in range(1, 1001):
        view.copied("copying", keys, 1000, keys)
    view.line("done")
    assert capsys.readouterr().out.splitlines() == [
        "copying: 1 of 1000 keys, 1 B",
        "copying: 1000 of 1000 keys, 1000 B",
        "done",
    ]
