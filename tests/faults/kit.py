"""What every fault test uses: a brain process under its control, and a client made of the generated stubs.

Invariant: a `Brain` left by its `with` block is dead and reaped, whatever the test did to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from harness.store import Store
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

CALL_SECONDS = 30.0  # a busy machine; never a measure of speed
READY_SECONDS = 60.0
_UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]


class Client:
    """One connection of its own."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [*_UNBOUNDED, ("grpc.use_local_subchannel_pool", 1)]
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self.kv = stubs.KVStub(self.channel)
        self.watch = stubs.WatchStub(self.channel)
        self.lease = stubs.LeaseStub(self.channel)
        self.maintenance = stubs.MaintenanceStub(self.channel)
        self.cluster = stubs.ClusterStub(self.channel)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """The revision of the put."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return self.kv.Put(request, timeout=CALL_SECONDS).header.revision

    def get(self, key: bytes) -> mvcc.KeyValue | None:
        """The present KeyValue, or None."""
        answer = self.kv.Range(rpc.RangeRequest(key=key), timeout=CALL_SECONDS)
        return answer.kvs[0] if answer.kvs else None

    def everything(self) -> rpc.RangeResponse:
        """All keys."""
        return self.kv.Range(rpc.RangeRequest(key=b"\0", range_end=b"\0"), timeout=CALL_SECONDS)

    def revision(self) -> int:
        """The current revision."""
        return self.kv.Range(rpc.RangeRequest(key=b"-"), timeout=CALL_SECONDS).header.revision

    def events(self, start: int, end: int) -> Iterator[mvcc.Event]:
        """Every event of the revisions start..end, by a watch that is cancelled at the end of them."""
        create = rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start, prev_kv=True)
        call = self.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=CALL_SECONDS)
        try:
            if start > end:
                return
            for answer in call:
                assert not answer.canceled, answer
                yield from answer.events
                if answer.events and answer.events[-1].kv.mod_revision >= end and not answer.fragment:
                    return
        finally:
            call.cancel()

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    """(code, text) of what a failed call raised."""
    assert isinstance(call, grpc.RpcError)
    assert isinstance(call, grpc.Call)
    return call.code(), call.details() or ""


@contextmanager
def brain(folder: Path, *flags: str, tls: bool = False) -> Iterator[Store]:
    """A serving brain on `folder`/data."""
    store = Store(folder, name="brain", tls=tls, flags=flags)
    try:
        yield store.start()
    finally:
        store.kill()


def address(store: Store) -> str:
    return f"127.0.0.1:{store.port}"


def memory(pid: int) -> int:
    """Bytes of memory of its own (not pages of files) that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
