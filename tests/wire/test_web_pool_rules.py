"""What a pool decides, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from wharf.wire.pool import Demand, Life, PoolLimits, Silence, dials_wanted, idle_to_close, ranked
from wharf.wire.tcp import interleave

LIMITS = PoolLimits()


@dataclass(frozen=True, slots=True)
class Slot:
    version: int = 2
    open_requests: int = 0
    capacity: int = 100
    idle_since: float | None = None


@pytest.mark.parametrize(
    ("slots", "chosen"),
    [
        ([], None),
        ([Slot(capacity=0)], None),
        ([Slot(open_requests=3), Slot(open_requests=7), Slot(open_requests=5)], 1),
        ([Slot(open_requests=99, capacity=1), Slot(open_requests=100, capacity=0)], 0),
        ([Slot(1, 0, 1, 10.0), Slot(1, 0, 1, 20.0), Slot(1, 1, 0)], 1),
    ],
)
def test_the_fullest_with_room_is_taken_and_of_idle_ones_the_last_used(slots: list[Slot], chosen: int | None) -> None:
    best = ranked(slots)[-1:]
    assert best == ([] if chosen is None else [slots[chosen]])


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        (Demand(waiting=0, dialing=0, open=0, version=0), 0),
        (Demand(waiting=9, dialing=0, open=0, version=0), 1),
        (Demand(waiting=9, dialing=1, open=0, version=0), 0),
        (Demand(waiting=9, dialing=0, open=3, version=2), 1),
        (Demand(waiting=9, dialing=0, open=64, version=2), 0),
        (Demand(waiting=101, dialing=0, open=8, version=2), 2),
        (Demand(waiting=101, dialing=1, open=8, version=2), 1),
        (Demand(waiting=1024, dialing=0, open=0, version=0), 1),  # one dial finds the version out
        (Demand(waiting=1024, dialing=0, open=1, version=2), 4),
        (Demand(waiting=1024, dialing=3, open=1, version=2), 1),
        (Demand(waiting=1024, dialing=0, open=62, version=2), 2),
        (Demand(waiting=3, dialing=0, open=1, version=2, streams=1), 3),
        (Demand(waiting=9, dialing=2, open=5, version=1), 7),
        (Demand(waiting=9, dialing=0, open=1020, version=1), 4),
        (Demand(waiting=1, dialing=5, open=0, version=1), 0),
    ],
)
def test_how_many_are_dialled(demand: Demand, wanted: int) -> None:
    assert dials_wanted(demand, LIMITS) == wanted


@pytest.mark.parametrize(
    ("slots", "closed"),
    [
        ([Slot(1, idle_since=939.0), Slot(1, idle_since=941.0), Slot(1, 1, 0)], [0]),
        ([Slot(2, idle_since=909.0), Slot(2, idle_since=905.0)], [1]),  # one stays, the fresher one
        ([Slot(2, idle_since=905.0)], []),
        ([Slot(2, idle_since=905.0), Slot(2, idle_since=909.0), Slot(2, 3)], [0, 1]),
        ([Slot(2, idle_since=920.0), Slot(2, idle_since=905.0)], [1]),
    ],
)
def test_which_idle_ones_are_closed(slots: list[Slot], closed: list[int]) -> None:
    assert idle_to_close(slots, 1000.0, LIMITS) == [slots[index] for index in closed]


def test_edge_27_silence_is_asked_about_then_given_up() -> None:
    silence = Silence(LIMITS, 0.0)
    assert [silence.look(100, now) for now in (1.0, 30.9)] == [Life.FINE, Life.FINE]
    assert silence.look(100, 31.0) is Life.ASK
    assert silence.look(100, 45.9) is Life.FINE
    assert silence.look(117, 46.0) is Life.FINE, "it answered"
    assert silence.look(117, 76.0) is Life.ASK
    assert silence.look(117, 91.0) is Life.DEAD


def test_address_families_take_turns() -> None:
    def info(family: int, number: int) -> tuple[int, int, int, str, Any]:
        return (family, 1, 6, "", number)

    found = [info(10, 1), info(10, 2), info(10, 3), info(2, 4), info(2, 5)]
    assert [item[4] for item in interleave(found)] == [1, 4, 2, 5, 3]
    assert interleave([]) == []
