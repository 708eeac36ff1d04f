"""Waiting in line under a prefix: the protocol that etcd's lock and election services share.

Everybody who wants the place puts a key under the prefix, bound to a lease; the oldest key holds it. Who waits, waits
for the key just older than its own to go, so that one release wakes one waiter. Keys of dead clients go with their
leases.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from wharf.brain.api.local import LocalClient, key_values, last_created_before
from wharf.brain.api.pb import mvcc
from wharf.brain.store.shapes import (
    Committed,
    Compare,
    CompareResult,
    CompareTarget,
    Op,
    PutOp,
    RangeOp,
    TxnAnswer,
    TxnOp,
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in line: the key, the revision that created it, the revision of the answer that says so."""

    key: bytes
    create_revision: int
    revision: int
    existing: mvcc.KeyValue | None  # the key was there already, with this value


def ticket_key(prefix: bytes, lease_id: int) -> bytes:
    """etcd's name for a client's key: prefix and lease id in hexadecimal."""
    sign, number = ("-", -lease_id) if lease_id < 0 else ("", lease_id)
    return prefix + f"{sign}{number:x}".encode()


async def take_ticket(client: LocalClient, prefix: bytes, lease_id: int, value: bytes) -> Ticket:
    """Put a key under `prefix` unless this lease has one already."""
    key = ticket_key(prefix, lease_id)
    committed = await client.submit(
        TxnOp(
            (Compare(key, CompareTarget.CREATE, CompareResult.EQUAL, 0),),
            (PutOp(key, value, lease_id),),
            (RangeOp(key),),
        )
    )
    answer = committed.answer
    if not isinstance(answer, TxnAnswer) or answer.succeeded:
        return Ticket(key, committed.revision, committed.revision, None)
    existing = key_values(answer.answers[0])[0]
    return Ticket(key, existing.create_revision, committed.revision, existing)


async def wait_for_turn(client: LocalClient, prefix: bytes, create_revision: int) -> None:
    """Returns when no key under `prefix` is older than `create_revision`."""
    while True:
        revision, older = client.get(last_created_before(prefix, create_revision))
        if not older:
            return
        await _wait_deleted(client, older[0].key, revision)


async def if_owner(client: LocalClient, key: bytes, create_revision: int, op: Op) -> Committed | None:
    """Do `op` if `key` is still the one created at `create_revision`; None if it is not."""
    condition = Compare(key, CompareTarget.CREATE, CompareResult.EQUAL, create_revision)
    committed = await client.submit(TxnOp((condition,), (op,)))
    return committed if _succeeded(committed) else None


def _succeeded(committed: Committed) -> bool:
    return isinstance(committed.answer, TxnAnswer) and committed.answer.succeeded


async def _wait_deleted(client: LocalClient, key: bytes, start_revision: int) -> None:
    """Returns at the first DELETE of `key` from `start_revision` on, or when that history is compacted."""
    async with aclosing(client.watch(key, b"", start_revision)) as responses:
        async for response in responses:
            if any(event.type == mvcc.Event.DELETE for event in response.events):
                return
