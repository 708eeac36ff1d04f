"""Users and roles travel with the store: to a node that follows, and over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from wharf.brain.auth import records, tokens
from wharf.brain.auth.book import AuthBook
from wharf.brain.auth.shapes import (
    ROOT,
    Access,
    AddRole,
    AddUser,
    Disable,
    Enable,
    GrantPermission,
    GrantRole,
    Operation,
    Permission,
)
from wharf.brain.engine import open_engine
from wharf.brain.errors import NoLeader, PermissionDenied
from wharf.brain.store.shapes import Committed, PutOp
from wharf.brain.store.store import Store

KEY = b"k" * tokens.KEY_BYTES
TENANT: tuple[Operation, ...] = (
    AddUser(ROOT, "h"),
    GrantRole(ROOT, ROOT),
    AddUser("tenant", "h"),
    AddRole("tenant"),
    GrantPermission("tenant", Permission(Access.READ, b"mine")),
    GrantRole("tenant", "tenant"),
    Enable(KEY),
)


def book_of(store: Store) -> AuthBook:
    present = store.present
    book = AuthBook(lambda: present.meta_under(records.PREFIX), store.write_meta)
    present.on_meta(records.SWITCH, book.switched)
    return book


def play(story: Callable[[Store, Store], Awaitable[None]]) -> None:
    """`story` with a leader and a follower on one engine."""

    async def run() -> None:
        engine = open_engine("memory:")
        leader, follower = Store(engine), Store(engine)
        await leader.start()
        follower.load(member_id=5)
        try:
            await story(leader, follower)
        finally:
            await follower.stop()
            await leader.stop()
            engine.close()

    asyncio.run(run())


def test_a_follower_knows_what_the_leader_has_written() -> None:
    async def story(leader: Store, follower: Store) -> None:
        written, shown = book_of(leader), book_of(follower)
        for operation in TENANT:
            await written.changed(operation)
        assert shown.rules is None
        assert follower.present.advance()
        assert shown.state == written.state
        assert shown.rules is not None
        shown.rules.require("tenant", Access.READ, b"mine")
        with pytest.raises(PermissionDenied):
            shown.rules.require("tenant", Access.READ, b"other")
        claims = tokens.Claims("tenant", written.state.revision, 10.0)
        found = tokens.read(shown.state.key, tokens.issue(written.state.key, claims).encode())
        assert found is not None
        assert found[0] == claims
        await written.changed(Disable())
        follower.present.advance()
        assert shown.rules is None
        with pytest.raises(NoLeader):
            await shown.changed(AddUser("x"))

    play(story)


def test_a_change_is_shown_with_the_revision_it_came_with() -> None:
    """What the leader has not published yet, a follower does not act on."""

    async def story(leader: Store, follower: Store) -> None:
        written, shown = book_of(leader), book_of(follower)
        outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        leader.submit(PutOp(b"k", b"v"), outcome.set_result)
        await written.changed(AddUser("u"))
        assert isinstance(await outcome, Committed)
        follower.present.advance()
        assert shown.state.users == {}
        follower.present.confirmed = leader.revision
        follower.present.advance()
        assert set(shown.state.users) == {"u"}

    play(story)


def test_users_outlive_a_restart() -> None:
    async def run() -> None:
        engine = open_engine("memory:")
        first = Store(engine)
        await first.start()
        before = book_of(first)
        for operation in TENANT:
            await before.changed(operation)
        await first.stop()
        second = Store(engine)
        await second.start()
        assert book_of(second).state == before.state
        await second.stop()
        engine.close()

    asyncio.run(run())
