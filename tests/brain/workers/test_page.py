"""Words order states; the page is one for all who have its descriptor."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.workers.page import (
    GENERATION_BITS,
    HALTED,
    MOST_WORKERS,
    NUMBER_BITS,
    Page,
    generation_of,
    make_page,
    word_of,
)

places = st.tuples(st.integers(0, (1 << GENERATION_BITS) - 2), st.integers(0, (1 << NUMBER_BITS) - 1))


@given(places, places)
def test_a_later_state_has_a_greater_word(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (word_of(*one) < word_of(*other)) == (one < other)
    assert generation_of(word_of(*one)) == one[0]
    assert word_of(*one) < HALTED


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), ((1 << GENERATION_BITS) - 1, 0), (0, 1 << NUMBER_BITS)])
def test_what_does_not_fit_a_word_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="too many"):
        word_of(*place)


def test_what_one_writes_the_others_read() -> None:
    fd = make_page()
    ours, theirs = Page(fd), Page(fd)
    os.close(fd)
    assert (theirs.published, theirs.seen(0)) == (0, 0)
    ours.published = HALTED
    theirs.note(MOST_WORKERS - 1, 7)
    assert (theirs.published, ours.seen(MOST_WORKERS - 1), ours.seen(0)) == (HALTED, 7, 0)
    for page in (ours, theirs, theirs):
        page.close()
