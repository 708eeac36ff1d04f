"""Moves revisions inside messages, so that a server that has lived already looks like a fresh one.

Programs and model count from a fresh store (revision 1). The server stands at some `base`: what goes out is shifted up,
what comes in down. Zero and negative numbers mean something else than a revision and stay as they are.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_REVISIONS = frozenset(
    (
        "revision",
        "create_revision",
        "mod_revision",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
        "start_revision",
        "compact_revision",
    )
)


def shifted(message: M, by: int) -> M:
    """A copy with every revision in it, at any depth, moved."""
    copy = type(message)()
    copy.CopyFrom(message)
    _shift(copy, by)
    return copy


def _shift(message: Any, by: int) -> None:
    for field, value in message.ListFields():
        if field.name in _REVISIONS:
            if value > 0:
                setattr(message, field.name, value + by)
        elif field.message_type is not None:
            for one in value if field.is_repeated else (value,):
                _shift(one, by)
