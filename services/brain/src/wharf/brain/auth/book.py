"""The users and roles of a running node: one live state, which is always what is stored and shown.

Changes are made one after the other, each on what the one before it left, so that a batch that does not land leaves
nothing behind it standing on it. The state is taken from the store whenever its switch record changes there, by a
change of this node or of another one, so both ways of learning are one.

Invariant: `state` is what the store shows; `rules` are those of `state`, None while authentication is off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wharf.brain.auth import records
from wharf.brain.auth.rules import Rules
from wharf.brain.auth.shapes import Operation
from wharf.brain.auth.state import AuthState, apply
from wharf.brain.errors import BrainError, TooManyRequests
from wharf.common.log import get_log

_log = get_log("brain.auth")
_MOST_WAITING: Final = 1000  # changes; they are made by hand, more is somebody's mistake

Done = Callable[[BrainError | None], None]
Read = Callable[[], Mapping[bytes, bytes]]
"""All records under `records.PREFIX` that the store shows."""
Write = Callable[[Sequence[records.Write], Done], None]
"""Make these records durable and show them, then say so."""


class AuthBook:
    """Whoever makes it has `switched` called now and whenever `records.SWITCH` changes in what the store shows."""

    def __init__(self, read: Read, write: Write) -> None:
        self.state = AuthState()
        self.rules: Rules | None = None
        self._read = read
        self._write = write
        self._waiting: deque[tuple[Operation, Done]] = deque()
        self._writing = False

    def switched(self, _: bytes | None) -> None:
        """The stored state is another one; ValueError when it is damaged."""
        state = self.state = records.load(self._read())
        self.rules = Rules(state.users, state.roles) if state.enabled else None

    def change(self, operation: Operation, done: Done) -> None:
        """`operation` after all that were asked for before it; `done` gets None once durable, or what refuses it."""
        if len(self._waiting) >= _MOST_WAITING:
            done(TooManyRequests())
            return
        self._waiting.append((operation, done))
        if not self._writing:
            self._write_next()

    async def changed(self, operation: Operation) -> None:
        """`change`, awaited; raises the BrainError that refuses it. Cancelling does not take the change back."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: BrainError | None) -> None:
            if outcome.done():
                return
            if error is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(error)

        self.change(operation, done)
        await outcome

    def _write_next(self) -> None:
        operation, done = self._waiting.popleft()
        self._writing = True

        def stored(error: BrainError | None) -> None:
            self._writing = False
            if error is None:
                _log.info("authentication changed", change=repr(operation), auth_revision=self.state.revision)
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._write_rest)
            done(error)

        try:
            changes = tuple(records.changes(self.state, apply(self.state, operation)))
        except BrainError as error:
            stored(error)
        else:
            self._write(changes, stored)

    def _write_rest(self) -> None:
        if self._waiting and not self._writing:
            self._write_next()
