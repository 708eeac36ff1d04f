"""Clocks: boot time moves on, a fake one only when told."""

import pytest
from wharf.common.clock import BootClock, FakeClock


def test_boot_clock_never_goes_back() -> None:
    clock = BootClock()
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)
    assert clock.wall_ns() > 1_500_000_000 * 10**9


def test_fake_clock_moves_when_told() -> None:
    clock = FakeClock(10.0, wall_ns=5)
    clock.advance(2.5)
    assert (clock.now(), clock.wall_ns()) == (12.5, 2_500_000_005)


def test_the_wall_may_step_back_without_boot_time_noticing() -> None:
    clock = FakeClock(10.0, wall_ns=10**12)
    clock.step_wall(-60)
    assert (clock.now(), clock.wall_ns()) == (10.0, 10**12 - 60 * 10**9)


def test_fake_clock_refuses_to_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)
