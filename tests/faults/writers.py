"""Clients that write while the server is being killed, and remember exactly what was acknowledged.

Each writer has its own connection and writes keys nobody writes twice, so whatever happens to the server every acknowledged key must
be there with its revision. Every fourth write is a transaction over two keys, to see that none is torn.
Invariant: `acknowledged` has a key only after the server's answer arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc

from wharf.common.pb.etcd import rpc_pb2, rpc_pb2_grpc

SECONDS = 10.0
PAIR_EVERY = 4


def channel(address: str) -> grpc.Channel:
    """A connection of its own, that gives up at once when the server is gone."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
    ]
    return grpc.insecure_channel(address, options=options)


def pair_of(key: bytes) -> bytes:
    """The other key of a two-key transaction."""
    return key.replace(b"/left", b"/right")


class Writer:
    """Writes until told to stop or the server is gone."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._sequence = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.acknowledged: dict[bytes, int] = {}  # key → revision it was written at

    def start(self, address: str) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * SECONDS)
            assert not self._thread.is_alive(), "a writer hangs"

    def _run(self, address: str) -> None:
        with channel(address) as connection:
            kv = rpc_pb2_grpc.KVStub(connection)
            while not self._stop.is_set():
                self._sequence += 1
                try:
                    self._write(kv)
                except grpc.RpcError:
                    return  # in flight when the server went: it may have landed or not

    def _write(self, kv: rpc_pb2_grpc.KVStub) -> None:
        name = b"/writer/%d/%08d" % (self._number, self._sequence)
        if self._sequence % PAIR_EVERY:
            answer = kv.Put(rpc_pb2.PutRequest(key=name, value=name), timeout=SECONDS)
            self.acknowledged[name] = answer.header.revision
            return
        left = name + b"/left"
        puts = [rpc_pb2.RequestOp(request_put={"key": key, "value": name}) for key in (left, pair_of(left))]
        done = kv.Txn(rpc_pb2.TxnRequest(success=puts), timeout=SECONDS)
        self.acknowledged[left] = self.acknowledged[pair_of(left)] = done.header.revision


class Repeater:
    """Does something to the server over and over, beside the writers, until it is gone."""

    def __init__(self, action: Callable[[grpc.Channel], None], pause: float) -> None:
        self._action = action
        self._pause = pause
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.done = 0

    def start(self, address: str) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * SECONDS)
            assert not self._thread.is_alive(), "a client hangs"

    def _run(self, address: str) -> None:
        with channel(address) as connection:
            try:
                while not self._stop.wait(self._pause):
                    self._action(connection)
                    self.done += 1
            except grpc.RpcError:
                return
