"""What only a fresh server shows, or random programs meet too seldom: small programs held against the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from proofs import servers
from proofs.model.driver import Session
from proofs.model.programs import Progress, Step, Unary, Watch
from proofs.model.versions import ETCD_3_4_23, NEWEST
from wharf.common.pb.etcd import rpc_pb2


@pytest.fixture
def fresh(target: str, tmp_path: Path) -> Iterator[Session]:
    """A server nobody has written to, under comparison."""
    store = servers.start(target, tmp_path)
    session = Session(f"127.0.0.1:{store.port}", ETCD_3_4_23 if target == "etcd-3.4" else NEWEST)
    yield session
    session.close()
    store.stop()


def compact(revision: int) -> Unary:
    return Unary("compact", rpc_pb2.CompactionRequest(revision=revision))


def put(key: bytes, value: bytes = b"v", lease: int = 0) -> Unary:
    return Unary("put", rpc_pb2.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes, **options: int) -> Unary:
    return Unary("range", rpc_pb2.RangeRequest(key=key, **options))  # type: ignore[arg-type]  # int fields only


def in_txn(*requests: rpc_pb2.RangeRequest) -> Unary:
    return Unary("txn", rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range=one) for one in requests]))


def grant(lease: int, ttl: int) -> Unary:
    return Unary("lease_grant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl))


def everything_from(revision: int) -> rpc_pb2.WatchCreateRequest:
    return rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=revision, prev_kv=True)


PROGRAMS: dict[str, list[Step]] = {
    "the first revision is 1, the first write makes it 2": [get(b"k"), put(b"k"), get(b"k"), get(b"k", revision=1)],
    "a future revision": [get(b"k", revision=2), compact(2), in_txn(rpc_pb2.RangeRequest(key=b"k", revision=2))],
    "revision 0 can be compacted, once": [compact(-1), compact(0), compact(0), compact(-1), compact(1), compact(1)],
    "a negative revision means now, in a transaction before any compaction too": [
        put(b"k"),
        get(b"k", revision=-1),
        in_txn(rpc_pb2.RangeRequest(key=b"k", revision=-1)),
        in_txn(rpc_pb2.RangeRequest(key=b"k", revision=-2)),
        compact(2),
        get(b"k", revision=-1),
        in_txn(rpc_pb2.RangeRequest(key=b"k", revision=-1)),
    ],
    "a lease lives at least two seconds": [grant(1, 0), grant(2, -1), grant(3, 1), grant(4, 3)],
    "the history from the first revision on": [
        put(b"a"),
        put(b"a", b"w"),
        Unary("delete_range", rpc_pb2.DeleteRangeRequest(key=b"a")),
        put(b"b"),
        Watch(0, everything_from(1)),
        Watch(0, everything_from(6)),
        Progress(0),
    ],
    "a watch from the compact revision, and one from before": [
        put(b"a"),
        put(b"a", b"w"),
        put(b"a", b"x"),
        compact(3),
        Watch(0, everything_from(3)),
        Watch(1, everything_from(2)),
    ],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fresh_server(fresh: Session, name: str) -> None:
    fresh.run_fresh(PROGRAMS[name])


def test_unknown_sort_options_are_refused(fresh: Session, target: str) -> None:
    """etcd 3.4 cannot be asked: it ends itself at an unknown target."""
    if target != "etcd-3.4":
        fresh.run_fresh([get(b"k", sort_order=3), get(b"k", sort_target=5), get(b"k", sort_order=-1)])
    fresh.run_fresh([get(b"k", sort_order=2, sort_target=4)])
