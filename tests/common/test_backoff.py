"""How long the place of a process that died stays empty."""

from __future__ import annotations

from wharf.common.backoff import FIRST_DELAY, MOST_DELAY, STEADY, Backoff


def test_deaths_in_a_row_are_waited_for_ever_longer_up_to_a_bound() -> None:
    backoff = Backoff()
    delays = [backoff.died(1.0) for _ in range(100)]
    assert delays[:4] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY, 8 * FIRST_DELAY]
    assert delays[-1] == MOST_DELAY


def test_a_steady_life_makes_up_for_what_was_before() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.died(1.0)
    assert backoff.died(STEADY) == FIRST_DELAY
    assert backoff.died(1.0) == 2 * FIRST_DELAY
