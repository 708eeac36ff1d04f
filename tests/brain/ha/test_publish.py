"""Batches go to followers in order, and not before this node shows them."""

from __future__ import annotations

import asyncio

from wharf.brain.engine.delta import Delta, parse_delta
from wharf.brain.ha.publish import Publisher


class FakeBus:
    connected, max_payload = True, 1 << 20

    def __init__(self) -> None:
        self.sent: list[Delta] = []

    def publish(self, subject: str, data: bytes) -> None:
        assert subject == "s"
        self.sent.append(parse_delta(data))


def delta(seq: int, base: int, revision: int) -> Delta:
    return Delta(1, seq, base, revision, [b"r"] * (revision - base), [])


def test_a_batch_waits_until_it_is_shown() -> None:
    async def story() -> None:
        bus, shown = FakeBus(), [5]
        publisher = Publisher(bus, "s", lambda: shown[0])
        publisher.start()
        publisher.landed(delta(1, 5, 7))
        publisher.landed(delta(2, 7, 7))
        await asyncio.sleep(0)
        assert not bus.sent
        shown[0] = 7
        publisher.flush(7)
        assert [each.seq for each in bus.sent] == [1, 2]

    asyncio.run(story())


def test_a_batch_that_changes_no_key_waits_until_this_node_has_it_too() -> None:
    async def story() -> None:
        bus = FakeBus()
        publisher = Publisher(bus, "s", lambda: 7)
        publisher.start()
        publisher.landed(delta(3, 7, 7))
        await asyncio.sleep(0)
        assert not bus.sent, "a compaction would be known elsewhere first"
        publisher.settled()
        await asyncio.sleep(0)
        assert [each.seq for each in bus.sent] == [3]

    asyncio.run(story())


def test_who_leads_no_more_says_nothing() -> None:
    async def story() -> None:
        bus = FakeBus()
        publisher = Publisher(bus, "s", lambda: 9)
        publisher.landed(delta(1, 5, 7))
        publisher.start()
        publisher.landed(delta(2, 7, 8))
        publisher.stop()
        publisher.flush(9)
        await asyncio.sleep(0)
        assert not bus.sent

    asyncio.run(story())


def test_without_a_bus_nothing_is_kept() -> None:
    publisher = Publisher(None, "s", lambda: 0)
    publisher.start()
    publisher.landed(delta(1, 1, 2))
    publisher.flush(2)
    assert publisher.published == 0
    assert not publisher.connected
