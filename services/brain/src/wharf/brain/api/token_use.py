"""Uses of tokens, recorded by the node that leads. Between nodes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from wharf.brain.api.answered import AnsweredCall, Reply
from wharf.brain.api.node import Node
from wharf.brain.api.service import fail, unary
from wharf.brain.auth.token_use import PREFIX, TokenUses, UseRecords, format_time, parse_time
from wharf.brain.auth.tokens import ID_BYTES
from wharf.brain.errors import BrainError, MalformedRequest
from wharf.wire.rpc import Call, Method, UnaryHandler

RECORD_USE: Final = "/wharf.brain/TokenUse"
"""One use of a token: its id, then the time as in the record."""


class TokenUseApi:
    def __init__(self, node: Node) -> None:
        present, ttl = node.store.present, node.limits.auth_token_ttl
        self.uses = TokenUses(ttl, present.meta, self._ask)
        self.record_by: UnaryHandler = self.record  # this node's handler, or the way to the node that leads
        self._records = UseRecords(self.uses, ttl, lambda: present.meta_under(PREFIX))
        self._write_meta = node.store.write_meta

    def method(self) -> Method:
        return unary(RECORD_USE, self.record)

    def record(self, data: bytes, call: Call) -> None:
        if len(data) != ID_BYTES + 8:
            raise MalformedRequest("not a token id and a time")
        changes = list(self._records.changes(data[:ID_BYTES], parse_time(data[ID_BYTES:])))
        self._write_meta(changes, _answer(call))

    def _ask(self, token_id: bytes, at: float) -> None:
        call = AnsweredCall(RECORD_USE, _ignore)
        self.record_by(token_id + format_time(at), cast(Call, call))


def _answer(call: Call) -> Callable[[BrainError | None], None]:
    def done(error: BrainError | None) -> None:
        if error is None:
            call.reply(b"")
        else:
            fail(call, error)

    return done


def _ignore(_: Reply) -> None:
    """A use that is not recorded is asked for again with a later use."""
