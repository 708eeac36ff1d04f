"""A gRPC client for one server, for the model test: unary calls that return an answer or a refusal, and collected watch
streams.

It owns the channel and the reader thread of each stream. It checks what is constant (cluster, member) and takes it out
of headers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from proofs.model.refusals import Refused
from wharf.common.pb.etcd import rpc_pb2, rpc_pb2_grpc

SECONDS = 20.0


class Client:
    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        grpc.channel_ready_future(self._channel).result(timeout=SECONDS)
        self.kv = rpc_pb2_grpc.KVStub(self._channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self._channel)
        self._watch = rpc_pb2_grpc.WatchStub(self._channel)
        self._identity: tuple[int, int] | None = None
        self.unary: dict[str, Callable[[Any], Any]] = {
            "range": self._plain(self.kv.Range),
            "put": self._plain(self.kv.Put),
            "delete_range": self._plain(self.kv.DeleteRange),
            "txn": self._plain(self.kv.Txn),
            "compact": self._plain(self.kv.Compact),
            "lease_grant": self._plain(self.lease.LeaseGrant),
            "lease_revoke": self._plain(self.lease.LeaseRevoke),
            "lease_time_to_live": self._plain(self.lease.LeaseTimeToLive),
            "lease_leases": self._plain(self.lease.LeaseLeases),
            "lease_keep_alive": self._keep_alive,
        }

    def close(self) -> None:
        self._channel.close()

    def open_stream(self) -> WatchCall:
        return WatchCall(self._watch.Watch, self.anonymous)

    def anonymous(self, answer: Any) -> Any:
        """The answer without what names the server; that must never change."""
        identity = (answer.header.cluster_id, answer.header.member_id)
        if self._identity is None:
            self._identity = identity
        assert identity == self._identity, f"the server's name changed: {self._identity} → {identity}"
        assert 0 not in identity, "cluster and member ids must not be zero"
        assert answer.header.raft_term > 0, "the term must not be zero"
        for field in ("cluster_id", "member_id", "raft_term"):
            answer.header.ClearField(field)
        return answer

    def _plain(self, call: Callable[..., Any]) -> Callable[[Any], Any]:
        def ask(request: Any) -> Any:
            try:
                return self.anonymous(call(request, timeout=SECONDS))
            except grpc.RpcError as error:
                raise Refused(error.code(), error.details() or "") from error

        return ask

    def _keep_alive(self, request: Any) -> Any:
        try:
            return self.anonymous(next(self.lease.LeaseKeepAlive(iter((request,)), timeout=SECONDS)))
        except grpc.RpcError as error:
            raise Refused(error.code(), error.details() or "") from error


class WatchCall:
    """One Watch call: what is sent, and everything that has come back, in order."""

    def __init__(self, method: Callable[..., Any], anonymous: Callable[[Any], Any]) -> None:
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        self._anonymous = anonymous
        self._changed = threading.Condition()
        self.received: list[rpc_pb2.WatchResponse] = []
        self.failure: str = ""
        self._call = method(self._outgoing())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _outgoing(self) -> Iterator[rpc_pb2.WatchRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for response in self._call:
                with self._changed:
                    self.received.append(self._anonymous(response))
                    self._changed.notify_all()
        except grpc.RpcError as error:
            failure = f"{error.code().name}: {error.details()}"
        except AssertionError as wrong:
            failure = str(wrong)
        else:
            failure = "the server ended the stream"
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def send(self, **fields: Any) -> None:
        self._requests.put(rpc_pb2.WatchRequest(**fields))

    def wait(self, enough: Callable[[list[rpc_pb2.WatchResponse]], bool], seconds: float = SECONDS) -> bool:
        """Until `enough` holds for what has come; False when the time is over or the stream has failed."""
        with self._changed:
            return (
                self._changed.wait_for(lambda: bool(self.failure) or enough(self.received), seconds)
                and not self.failure
            )

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(SECONDS)
