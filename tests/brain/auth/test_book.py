"""The live state follows what is stored, whoever stored it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from wharf.brain.auth import records
from wharf.brain.auth.book import AuthBook, Done
from wharf.brain.auth.shapes import ROOT, AddUser, DeleteUser, Enable, GrantRole
from wharf.brain.errors import BrainError, NoSpace, TooManyRequests, UserExists, UserNotFound


class Shelf:
    """Records that become durable when the test says so."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}
        self.waiting: list[tuple[Sequence[records.Write], Done]] = []
        self.book = AuthBook(lambda: self.stored, lambda changes, done: self.waiting.append((changes, done)))
        self.book.switched(None)

    def land(self) -> None:
        changes, done = self.waiting.pop(0)
        for key, value in changes:
            if value is None:
                del self.stored[key]
            else:
                self.stored[key] = value
        self.book.switched(self.stored.get(records.SWITCH))
        done(None)

    def fail(self, error: BrainError) -> None:
        self.waiting.pop(0)[1](error)


def test_a_change_counts_when_it_is_durable() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        added = asyncio.ensure_future(shelf.book.changed(AddUser("u")))
        await asyncio.sleep(0)
        assert shelf.book.state.users == {}
        shelf.land()
        await added
        assert set(shelf.book.state.users) == {"u"}

    asyncio.run(scenario())


def test_changes_stand_on_each_other_and_not_on_what_failed() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        answers: list[BrainError | None] = []
        for operation in (AddUser("u"), AddUser("u"), AddUser("u"), DeleteUser("u"), DeleteUser("u")):
            shelf.book.change(operation, answers.append)
        assert len(shelf.waiting) == 1
        shelf.fail(NoSpace())
        await asyncio.sleep(0)
        shelf.land()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        shelf.land()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [type(answer) for answer in answers] == [NoSpace, type(None), UserExists, type(None), UserNotFound]
        assert shelf.waiting == []

    asyncio.run(scenario())


def test_who_leaves_does_not_take_the_change_back() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        asked = asyncio.ensure_future(shelf.book.changed(AddUser("u")))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        shelf.land()
        assert set(shelf.book.state.users) == {"u"}

    asyncio.run(scenario())


def test_another_node_may_have_written() -> None:
    async def scenario() -> None:
        shelf, other = Shelf(), Shelf()
        for operation in (AddUser(ROOT), GrantRole(ROOT, ROOT), Enable(b"key")):
            other.book.change(operation, lambda _: None)
            other.land()
            await asyncio.sleep(0)
        assert shelf.book.rules is None
        shelf.stored = other.stored
        shelf.book.switched(b"")
        assert shelf.book.state == other.book.state
        assert shelf.book.rules is not None
        shelf.book.rules.require_root(ROOT)

    asyncio.run(scenario())


def test_a_flood_of_changes_is_refused() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        answers: list[BrainError | None] = []
        for number in range(1002):
            shelf.book.change(AddUser(str(number)), answers.append)
        assert [type(answer) for answer in answers] == [TooManyRequests]

    asyncio.run(scenario())
