"""What a client asked, what it was told and when: the recorded history that the checker judges.

Plain values without a connection. Field names are those of the checker's JSON lines (tests/faults/checker/history.go);
keys and values are text, because that is what a person reads in a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc


@dataclass(frozen=True, slots=True)
class KV:
    """A key as a response or an event shows it; value and create are empty for a deleted one."""

    key: str
    value: str = ""
    create: int = 0
    mod: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One part of a request: "range", "put" or "delete" of a key, or of [key, end)."""

    type: str
    key: str
    end: str = ""
    value: str = ""
    limit: int = 0
    count_only: bool = False
    prev: bool = False  # ask for what was there; a delete of a range must


@dataclass(frozen=True, slots=True)
class Compare:
    """`key` was last changed at `mod`; 0: it is absent."""

    key: str
    mod: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one operation answered."""

    kvs: Sequence[KV] = ()
    count: int = 0
    more: bool = False
    deleted: int = 0
    prev: Sequence[KV] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request."""

    revision: int
    succeeded: bool = True
    outcomes: Sequence[Outcome] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A call: one operation alone, or a transaction. `answer` None: nobody knows what became of it."""

    client: int
    node: str
    called: int  # nanoseconds of one monotonic clock, before it was sent
    returned: int  # after the answer was there
    success: Sequence[Operation]
    compare: Sequence[Compare] = ()
    failure: Sequence[Operation] = ()
    serializable: bool = False
    answer: Answer | None = None

    @property
    def changed(self) -> bool:
        """Whether it was acknowledged to have written."""
        if self.answer is None:
            return False
        taken = self.success if self.answer.succeeded else self.failure
        return any(
            one.type == "put" or (one.type == "delete" and told.deleted > 0)
            for one, told in zip(taken, self.answer.outcomes, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A change as a watch tells it."""

    type: str  # "put" or "delete"
    kv: KV
    prev: KV | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """All changes of one revision, in order."""

    revision: int
    events: Sequence[Event]


def kv_of(kv: mvcc.KeyValue) -> KV:
    return KV(kv.key.decode(), kv.value.decode(), kv.create_revision, kv.mod_revision, kv.version)


def event_of(event: mvcc.Event) -> Event:
    kind = "delete" if event.type == mvcc.Event.DELETE else "put"
    return Event(kind, kv_of(event.kv), kv_of(event.prev_kv) if event.HasField("prev_kv") else None)


def entries_of(events: Iterable[Event]) -> Iterator[Entry]:
    """Events, in order, by revision."""
    revision, together = 0, list[Event]()
    for event in events:
        if event.kv.mod != revision and together:
            yield Entry(revision, tuple(together))
            together = []
        revision = event.kv.mod
        together.append(event)
    if together:
        yield Entry(revision, tuple(together))


def request_op(one: Operation, serializable: bool = False) -> rpc.RequestOp:
    """`one` as it is sent."""
    key, end = one.key.encode(), one.end.encode()
    if one.type == "put":
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=one.value.encode(), prev_kv=one.prev))
    if one.type == "delete":
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=one.prev))
    asked = rpc.RangeRequest(
        key=key, range_end=end, limit=one.limit, count_only=one.count_only, serializable=serializable
    )
    return rpc.RequestOp(request_range=asked)


def transaction(request: Request) -> rpc.TxnRequest:
    """`request` as a transaction."""
    return rpc.TxnRequest(
        compare=[
            rpc.Compare(key=one.key.encode(), target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=one.mod)
            for one in request.compare
        ],
        success=[request_op(one) for one in request.success],
        failure=[request_op(one) for one in request.failure],
    )


def outcome_of(response: rpc.RangeResponse | rpc.PutResponse | rpc.DeleteRangeResponse) -> Outcome:
    if isinstance(response, rpc.RangeResponse):
        return Outcome(tuple(map(kv_of, response.kvs)), response.count, response.more)
    if isinstance(response, rpc.DeleteRangeResponse):
        return Outcome(deleted=response.deleted, prev=tuple(map(kv_of, response.prev_kvs)))
    return Outcome(prev=(kv_of(response.prev_kv),) if response.HasField("prev_kv") else ())


def txn_answer(response: rpc.TxnResponse) -> Answer:
    outcomes = []
    for one in response.responses:
        if one.HasField("response_range"):
            outcomes.append(outcome_of(one.response_range))
        elif one.HasField("response_put"):
            outcomes.append(outcome_of(one.response_put))
        else:
            outcomes.append(outcome_of(one.response_delete_range))
    return Answer(response.header.revision, response.succeeded, tuple(outcomes))


def lines(
    requests: Iterable[Request], log: Iterable[Entry], revision: int = 1, live: Sequence[KV] = ()
) -> Iterator[str]:
    """The checker's input: what stood before (`live` at `revision`), what was asked, what the store's log shows."""
    yield _line("base", {"revision": revision, "kvs": sorted(live, key=lambda kv: kv.key.encode())})
    for request in requests:
        yield _line("request", request)
    for entry in log:
        yield _line("log", entry)


def _line(kind: str, what: object) -> str:
    return json.dumps({kind: what}, default=_fields, separators=(",", ":"))


def _fields(value: object) -> dict[str, object]:
    names: tuple[str, ...] = value.__slots__  # type: ignore[attr-defined]  # only the slotted shapes above come here
    return {name: getattr(value, name) for name in names}
