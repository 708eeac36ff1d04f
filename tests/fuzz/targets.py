"""What is fuzzed: bytes of strangers, from the first function that sees them. Each target takes one input and raises
when an invariant breaks; being refused is no failure.

Pure of any fuzzer, so that the same targets run under atheris and under hypothesis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from brain.api.fakes import FakeCall
from fuzz.gateway import GATEWAY_TARGETS
from fuzz.http1 import HTTP1_TARGETS
from fuzz.http2 import HTTP2_TARGETS
from google.protobuf.message import DecodeError
from wharf.brain.api.encode import Encoder
from wharf.brain.api.members import Alone, Member
from wharf.brain.api.node import ApiLimits, Node
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.api.table import Api
from wharf.brain.api.tasks import Tasks
from wharf.brain.engine import open_engine
from wharf.brain.store._codec import parse_kube_range, parse_kube_txn, parse_kv
from wharf.brain.store.store import RAFT_TERM, Store, StoreLimits
from wharf.brain.watch.hub import Hub
from wharf.wire._nghttp2 import SessionError
from wharf.wire.h2 import PREFACE
from wharf.wire.rpc import Call, Kind
from wire.pair import Pair, raw_frame

_PIECE = 37  # an odd size of reads, so that frames are cut anywhere
_SETTINGS = raw_frame(4, 0, 0)
_QUOTA = 64 << 20
_NODE_LIFE = 300  # inputs before the node is made anew: what a leak piles up is found, what clients store is let go


def frames(data: bytes) -> None:
    """HTTP/2 and gRPC as a connection of the server takes them; an even first byte saves the fuzzer the preface."""
    pair = Pair()
    stream = data[1:] if data[:1] and data[0] % 2 else PREFACE + _SETTINGS + data[1:]
    for at in range(0, len(stream), _PIECE):
        try:
            pair.server.receive(stream[at : at + _PIECE])
        except SessionError:
            break
        pair.server.pump()
        if pair.server.finished:
            break
    pair.server.close()
    assert pair.server.streams == {}
    assert pair.server.held_bytes == 0
    assert not pair.failures


def shapes(data: bytes) -> None:
    """The hand-written parsers: what they recognise is what protobuf reads in the same bytes."""
    found = parse_kube_range(data)
    if found is not None:
        request = rpc.RangeRequest.FromString(data)
        key, range_end, limit, revision, keys_only, count_only = found
        assert (key, range_end, keys_only, count_only) == (
            request.key,
            request.range_end,
            request.keys_only,
            request.count_only,
        )
        assert (limit, revision) == (max(request.limit, 0), max(request.revision, 0))
    txn = parse_kube_txn(data)
    if txn is not None:
        parsed = rpc.TxnRequest.FromString(data)
        assert txn[0] == parsed.compare[0].key
        assert len(parsed.compare) == 1
        assert len(parsed.success) <= 1
        assert len(parsed.failure) <= 1
    try:
        kv = parse_kv(data)
    except ValueError:
        return
    try:
        same = mvcc.KeyValue.FromString(data)
    except DecodeError:
        return  # stored bytes are our own: what reads them may be laxer, and must not crash
    assert kv[0] == same.key
    assert kv[4] == same.value


class _Server:
    """A node on the memory engine. Made, used and closed inside its loop."""

    def __init__(self, store: Store) -> None:
        self.served = 0
        self._store = store
        self._hub = Hub(store)
        self.api = Api(
            Node(
                limits=ApiLimits(1 << 20, 128, _QUOTA),
                store=store,
                hub=self._hub,
                encoder=Encoder(store.cluster_id, store.member_id, RAFT_TERM),
                tasks=Tasks(),
                cluster=Alone(
                    Member(store.member_id, "fuzzed", ("http://127.0.0.1:2379",), ("http://127.0.0.1:2380",)), RAFT_TERM
                ),
            )
        )
        self.methods = sorted(self.api.methods, key=lambda method: method.path)

    @classmethod
    async def start(cls) -> _Server:
        store = Store(open_engine("memory:"), limits=StoreLimits(quota_bytes=_QUOTA))
        await store.start()
        return cls(store)

    async def close(self) -> None:
        await self.api.stop()
        self._hub.close()
        await self._store.stop()
        self._store.engine.close()


class ApiTarget:
    """Any method of the API with any request: an answer or a refusal, never a failure of ours."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None

    def __call__(self, data: bytes) -> None:
        if not data:
            return
        self._loop = self._loop or asyncio.new_event_loop()
        self._loop.run_until_complete(self._serve(data))
        assert self._server is not None
        if self._server.served == _NODE_LIFE:
            self.close()

    async def _serve(self, data: bytes) -> None:
        server = self._server = self._server or await _Server.start()
        server.served += 1
        method = server.methods[data[0] % len(server.methods)]
        call = FakeCall(method.path)
        _play(method.kind, method.handler, call, data[1:])
        await _settle()
        assert "internal error" not in call.text, f"{method.path} failed"
        call.cancel()
        await _settle()

    def close(self) -> None:
        if self._loop is not None and self._server is not None:
            self._loop.run_until_complete(self._server.close())
            self._loop.close()
        self._loop = self._server = None


async def _settle() -> None:
    for _ in range(4):  # a batch flies, lands, is published, is answered
        await asyncio.sleep(0)


def _play(kind: Kind, handler: Callable[..., None], call: FakeCall, message: bytes) -> None:
    same: Call = call
    if kind is Kind.UNARY:
        handler(message, same)
        return
    handler(same)
    if call.on_message is not None and not call.done:
        call.on_message(message)
    if call.on_half_close is not None and not call.done:
        call.on_half_close()


def nothing() -> None:
    """What most targets leave behind."""


_api = ApiTarget()
TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "shapes": shapes,
    "api": _api,
    **HTTP1_TARGETS,
    **HTTP2_TARGETS,
    **GATEWAY_TARGETS,
}
CLOSE: dict[str, Callable[[], None]] = {**dict.fromkeys(TARGETS, nothing), "api": _api.close}
