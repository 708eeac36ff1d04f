"""Signals of a process: a stop, a hurry, nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import uvloop
from wharf.gateway.life.stops import HURRY, Stops


async def signalled(*numbers: signal.Signals) -> None:
    """Send them to this process, each seen by the loop before the next."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        seen = loop.create_future()
        os.kill(os.getpid(), number)
        loop.call_later(0.01, seen.set_result, None)  # the loop hears of signals by a socket, in one of its next turns
        await seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_asks_for_a_stop_and_the_second_for_a_hurry(number: signal.Signals) -> None:
    async def main() -> None:
        stops, hurries = Stops(worker=False), []
        stops.when_hurried(lambda: hurries.append(1))
        assert not stops.stop.is_set()
        await signalled(number)
        assert stops.stop.is_set()
        assert hurries == []
        await signalled(number, number)
        assert hurries == [1]

    uvloop.run(main())


def test_who_was_in_a_hurry_before_anybody_listened_is_heard() -> None:
    async def main() -> None:
        stops, hurries = Stops(worker=False), []
        await signalled(signal.SIGTERM, signal.SIGTERM)
        stops.when_hurried(lambda: hurries.append(1))
        assert hurries == [1]

    uvloop.run(main())


def test_a_worker_is_hurried_by_its_parent_alone() -> None:
    async def main() -> None:
        stops, hurries = Stops(worker=True), []
        stops.when_hurried(lambda: hurries.append(1))
        await signalled(signal.SIGTERM, signal.SIGTERM)
        assert stops.stop.is_set()
        assert hurries == [], "the whole group was signalled: once by somebody, once by the parent"
        await signalled(HURRY)
        assert hurries == [1]

    uvloop.run(main())


def test_a_hangup_changes_nothing() -> None:
    async def main() -> None:
        stops = Stops(worker=False)
        await signalled(signal.SIGHUP, signal.SIGHUP)
        assert not stops.stop.is_set()

    uvloop.run(main())
