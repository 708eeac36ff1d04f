"""How long the place of a worker stays empty, and how long one may stand still."""

from __future__ import annotations

from wharf.brain.workers.policy import FIRST_DELAY, MOST_DELAY, MOST_STILL, STEADY, Backoff, Watchdog


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


def test_who_is_behind_and_stays_where_it_is_is_ended() -> None:
    dog = Watchdog()
    looks = [dog.look(5, 6 + number) for number in range(MOST_STILL + 1)]
    assert looks == [False] * MOST_STILL + [True]


def test_who_moves_may_be_behind_as_long_as_it_likes() -> None:
    dog = Watchdog()
    assert not any(dog.look(number, number + 1000) for number in range(10 * MOST_STILL))


def test_who_has_seen_everything_has_nothing_to_move_for() -> None:
    dog = Watchdog()
    assert not any(dog.look(5, 5) for _ in range(10 * MOST_STILL))
    assert not any(dog.look(5, 6) for _ in range(MOST_STILL - 1))
    assert not dog.look(6, 6)
    assert not dog.look(6, 7)
