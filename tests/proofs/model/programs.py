"""Random programs for a key-value server, as hypothesis strategies.

Revisions are written as if the store were fresh (1 is the empty store); the driver shifts them to where the server
really is. Few keys, few values, few leases, so that programs meet themselves; a part of every program is invalid on
purpose. Invariant: at most twelve keys exist, the size up to which the servers' sort keeps ties in key order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from wharf.common.pb.etcd import rpc_pb2

KEYS = (b"a", b"a/", b"a/1", b"a/2", b"a0", b"b", b"b\x00", b"b\x00\x00", b"\x00", b"\xff", b"\xff\xff", b"k" * 600)
VALUES = (b"", b"v", b"w", b"\x00", b"x" * 300)
LEASES = (101, 102, 103)
UNKNOWN_LEASE = 104


@dataclass(frozen=True)
class Unary:
    """One request; `method` is the model's name for it."""

    method: str
    request: Any

    def __repr__(self) -> str:
        return f"{self.method}({str(self.request).strip()!r})"


@dataclass(frozen=True)
class Watch:
    stream: int
    request: rpc_pb2.WatchCreateRequest

    def __repr__(self) -> str:
        return f"watch[{self.stream}]({str(self.request).strip()!r})"


@dataclass(frozen=True)
class CancelWatch:
    stream: int
    watch_id: int


@dataclass(frozen=True)
class Progress:
    stream: int


Step = Unary | Watch | CancelWatch | Progress


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of several strategies, each so many times as likely; the first is what examples shrink towards."""
    lots = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(lots) - 1).flatmap(lots.__getitem__)


keys = weighted((3, st.sampled_from(KEYS[:4])), (1, st.sampled_from(KEYS)))
maybe_keys = weighted((30, keys), (1, st.just(b"")))
ends = weighted(
    (4, st.just(b"")),
    (3, st.just(b"\0")),
    (6, st.sampled_from((b"a0", b"b", b"c", b"\xff"))),
    (2, keys),  # may well lie before the start
)
values = st.sampled_from(VALUES)
revisions = weighted((9, st.integers(1, 12)), (1, st.integers(-1, 30)))
flags = st.booleans()
rarely = st.integers(0, 15).map(lambda n: n == 0)
leases = weighted((8, st.just(0)), (4, st.sampled_from(LEASES)), (1, st.just(UNKNOWN_LEASE)))


def _sometimes(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return weighted((5, st.just(0)), (1, strategy))


ranges = st.builds(
    rpc_pb2.RangeRequest,
    key=maybe_keys,
    range_end=ends,
    limit=weighted((2, st.just(0)), (1, st.integers(-1, 5))),
    revision=_sometimes(revisions),
    sort_order=_sometimes(st.integers(0, 2)),
    sort_target=_sometimes(st.integers(0, 4)),
    serializable=flags,
    keys_only=rarely,
    count_only=rarely,
    min_mod_revision=_sometimes(revisions),
    max_mod_revision=_sometimes(revisions),
    min_create_revision=_sometimes(revisions),
    max_create_revision=_sometimes(revisions),
)
puts = st.builds(
    rpc_pb2.PutRequest,
    key=maybe_keys,
    value=values,
    lease=leases,
    prev_kv=flags,
    ignore_value=rarely,
    ignore_lease=rarely,
)
keeping_puts = st.builds(rpc_pb2.PutRequest, key=keys, ignore_value=flags, ignore_lease=st.just(True), prev_kv=flags)
deletes = st.builds(rpc_pb2.DeleteRangeRequest, key=maybe_keys, range_end=ends, prev_kv=flags)


@st.composite
def compares(draw: st.DrawFn) -> rpc_pb2.Compare:
    compare = rpc_pb2.Compare(
        key=draw(maybe_keys),
        range_end=draw(weighted((3, st.just(b"")), (1, ends))),
        target=draw(st.sampled_from(rpc_pb2.Compare.CompareTarget.values())),
        result=draw(st.sampled_from(rpc_pb2.Compare.CompareResult.values())),
    )
    field = ("version", "create_revision", "mod_revision", "value", "lease")[
        draw(st.integers(0, 4)) if draw(rarely) else compare.target
    ]
    if field == "value":
        compare.value = draw(values)
    elif field == "lease":
        compare.lease = draw(leases)
    else:
        setattr(compare, field, draw(weighted((2, st.just(0)), (3, st.integers(1, 12)))))
    return compare


def _op(**fields: Any) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(**fields)


def operations(depth: int) -> st.SearchStrategy[rpc_pb2.RequestOp]:
    plain_puts = st.builds(rpc_pb2.PutRequest, key=keys, value=values, prev_kv=flags)
    choices: list[tuple[int, st.SearchStrategy[rpc_pb2.RequestOp]]] = [
        (12, st.builds(_op, request_put=plain_puts)),
        (8, st.builds(_op, request_range=ranges)),
        (6, st.builds(_op, request_put=puts)),
        (8, st.builds(_op, request_delete_range=deletes)),
        (1, st.just(rpc_pb2.RequestOp())),
    ]
    if depth:
        choices.append((6, st.builds(_op, request_txn=txns(depth - 1))))
    return weighted(*choices)


def txns(depth: int) -> st.SearchStrategy[rpc_pb2.TxnRequest]:
    branch = st.lists(operations(depth), max_size=4)
    return st.builds(rpc_pb2.TxnRequest, compare=st.lists(compares(), max_size=2), success=branch, failure=branch)


@st.composite
def kube_txns(draw: st.DrawFn) -> rpc_pb2.TxnRequest:
    """The three shapes kube-apiserver writes with, which a server may answer on a path of their own."""
    key = draw(keys)
    target = draw(st.sampled_from((rpc_pb2.Compare.VERSION, rpc_pb2.Compare.CREATE, rpc_pb2.Compare.MOD)))
    compare = rpc_pb2.Compare(key=key, target=target, result=rpc_pb2.Compare.EQUAL)
    number = draw(weighted((2, st.just(0)), (3, st.integers(1, 12))))
    setattr(compare, ("version", "create_revision", "mod_revision")[compare.target], number)
    put = rpc_pb2.PutRequest(key=key, value=draw(values), lease=draw(leases))
    success = draw(st.sampled_from((_op(request_put=put), _op(request_delete_range={"key": key}))))
    failure = draw(st.sampled_from(((), (_op(request_range={"key": key}),))))
    return rpc_pb2.TxnRequest(compare=[compare], success=[success], failure=failure)


too_many_ops = st.builds(
    lambda count: rpc_pb2.TxnRequest(success=[_op(request_range={"key": b"a"})] * count), st.sampled_from((128, 129))
)
compactions = st.builds(rpc_pb2.CompactionRequest, revision=revisions, physical=flags)
grants = st.builds(
    rpc_pb2.LeaseGrantRequest,
    ID=st.sampled_from((0, *LEASES)),
    TTL=st.sampled_from((600, 3600, 9_000_000_000, 9_000_000_001)),
)
lease_ids = st.sampled_from((*LEASES, UNKNOWN_LEASE))


def _unary(method: str, requests: st.SearchStrategy[Any]) -> st.SearchStrategy[Unary]:
    return st.builds(Unary, st.just(method), requests)


streams = st.integers(0, 1)
watches = st.builds(
    rpc_pb2.WatchCreateRequest,
    key=maybe_keys,
    range_end=ends,
    start_revision=weighted((2, st.just(0)), (1, st.integers(1, 24))),
    progress_notify=flags,
    filters=weighted((4, st.just([])), (1, st.sampled_from(([0], [1], [0, 1])))),
    prev_kv=flags,
    watch_id=_sometimes(st.integers(0, 3)),
    fragment=flags,
)
lease_steps = weighted(
    (4, _unary("lease_grant", grants)),
    (1, _unary("lease_revoke", st.builds(rpc_pb2.LeaseRevokeRequest, ID=lease_ids))),
    (1, _unary("lease_keep_alive", st.builds(rpc_pb2.LeaseKeepAliveRequest, ID=lease_ids))),
    (2, _unary("lease_time_to_live", st.builds(rpc_pb2.LeaseTimeToLiveRequest, ID=lease_ids, keys=flags))),
    (1, _unary("lease_leases", st.just(rpc_pb2.LeaseLeasesRequest()))),
)
watch_steps = weighted(
    (4, st.builds(Watch, streams, watches)),
    (1, st.builds(CancelWatch, streams, st.integers(0, 3))),
    (1, st.builds(Progress, streams)),
)
write_steps = weighted(
    (6, _unary("put", st.builds(rpc_pb2.PutRequest, key=keys, value=values, prev_kv=flags))),
    (4, _unary("put", puts)),
    (1, _unary("put", keeping_puts)),
    (2, _unary("delete_range", deletes)),
    (7, _unary("txn", txns(2))),
    (5, _unary("txn", kube_txns())),
    (1, _unary("txn", too_many_ops)),
)
steps: st.SearchStrategy[Step] = weighted(
    (12, write_steps),
    (7, _unary("range", ranges)),
    (3, lease_steps),
    (3, watch_steps),
    (1, _unary("compact", compactions)),
)
first_puts = st.lists(_unary("put", st.builds(rpc_pb2.PutRequest, key=keys, value=values)), min_size=2, max_size=8)
programs: st.SearchStrategy[list[Step]] = st.builds(
    lambda first, then: [*first, *then], first_puts, st.lists(steps, min_size=10, max_size=40)
)
