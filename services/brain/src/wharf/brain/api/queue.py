"""Waiting in line under a prefix: the protocol that etcd's lock and election services share.

Everybody who wants the place puts a key under the prefix, bound to a lease; the oldest key holds it. Who waits, waits
for the key just older than its own to go, so that one release wakes one waiter. Keys of dead clients go with their
leases.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from wharf.brain.api.local import LocalClient, last_created_before
from wharf.brain.api.pb import mvcc, rpc


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in line: the key, the revision that created it, the revision of the answer that says so."""

    key: bytes
    create_revision: int
    revision: int
    existing: mvcc.KeyValue | None  # the key was there already, with this value
    lease_id: int


def ticket_key(prefix: bytes, lease_id: int) -> bytes:
    """etcd's name for a client's key: prefix and lease id in hexadecimal."""
    sign, number = ("-", -lease_id) if lease_id < 0 else ("", lease_id)
    return prefix + f"{sign}{number:x}".encode()


async def take_ticket(client: LocalClient, prefix: bytes, lease_id: int, value: bytes) -> Ticket:
    """Put a key under `prefix` unless this lease has one already."""
    key = ticket_key(prefix, lease_id)
    answer = await client.txn(
        rpc.TxnRequest(
            compare=[rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=0)],
            success=[_put(key, value, lease_id)],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
    )
    revision = answer.header.revision
    if answer.succeeded:
        return Ticket(key, revision, revision, None, lease_id)
    existing = answer.responses[0].response_range.kvs[0]
    return Ticket(key, existing.create_revision, revision, existing, lease_id)


async def wait_for_turn(client: LocalClient, prefix: bytes, create_revision: int) -> None:
    """Returns when no key under `prefix` is older than `create_revision`."""
    while True:
        revision, older = await client.get(last_created_before(prefix, create_revision))
        if not older:
            return
        await _wait_deleted(client, older[0].key, revision)


async def put_if_owner(client: LocalClient, key: bytes, create_revision: int, lease_id: int, value: bytes) -> int:
    """Put `value` if `key` is still the one created at `create_revision`: the revision; 0 if it is not."""
    return await _if_owner(client, key, create_revision, _put(key, value, lease_id))


async def delete_if_owner(client: LocalClient, key: bytes, create_revision: int) -> int:
    """Delete `key` on the same condition: the revision of the answer, whether it was deleted or not."""
    delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    compare = rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=create_revision)
    return (await client.txn(rpc.TxnRequest(compare=[compare], success=[delete]))).header.revision


async def _if_owner(client: LocalClient, key: bytes, create_revision: int, op: rpc.RequestOp) -> int:
    compare = rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=create_revision)
    answer = await client.txn(rpc.TxnRequest(compare=[compare], success=[op]))
    return answer.header.revision if answer.succeeded else 0


def _put(key: bytes, value: bytes, lease_id: int) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease_id))


async def _wait_deleted(client: LocalClient, key: bytes, start_revision: int) -> None:
    """Returns at the first DELETE of `key` from `start_revision` on, or when that history is compacted."""
    async with aclosing(client.watch(key, b"", start_revision)) as responses:
        async for response in responses:
            if any(event.type == mvcc.Event.DELETE for event in response.events):
                return
