"""How long a worker may stand still."""

from __future__ import annotations

from wharf.brain.workers.policy import MOST_STILL, Watchdog


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
