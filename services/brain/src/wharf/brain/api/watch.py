"""etcdserverpb.Watch: requests of a stream handed to the hub, its answers handed to the call.

What a WatchResponse says and when is the hub's affair; here are only the stream's life and the parsing of its requests.
"""

from __future__ import annotations

from collections.abc import Callable

from wharf.brain.api import decode
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import fail, listen, stream
from wharf.brain.errors import BrainError, NoLeader
from wharf.brain.watch.stream import WatchStream
from wharf.brain.watch.watcher import WatchSpec
from wharf.wire.rpc import Call, Method

_NO_PUT = rpc.WatchCreateRequest.NOPUT
_NO_DELETE = rpc.WatchCreateRequest.NODELETE


class WatchApi:
    """All open watch streams of a node."""

    def __init__(self, node: Node) -> None:
        self._hub = node.hub
        self._open: dict[Call, Callable[[], None]] = {}
        self._stopping: BrainError | None = None
        self._leaderless = False

    def methods(self) -> list[Method]:
        return [stream("/etcdserverpb.Watch/Watch", self.watch)]

    def watch(self, call: Call) -> None:
        """A half-closed stream goes on: etcd keeps sending events to a client that only listens."""
        if self._stopping is not None:
            raise self._stopping
        if self._leaderless and _insists(call):
            raise NoLeader
        watches = self._hub.open_stream(call.send, lambda: call.writable)

        def on_message(data: bytes) -> None:
            try:
                _handle(watches, decode.parse_message(rpc.WatchRequest, data))
            except Exception:
                on_cancel()
                raise

        def on_cancel() -> None:
            self._open.pop(call, None)
            watches.close()

        self._open[call] = on_cancel
        listen(call, on_message, watches.drained)
        call.on_cancel = on_cancel

    def leaderless(self, leaderless: bool) -> None:
        """Nobody leads, and has not for a while; or somebody does again."""
        self._leaderless = leaderless
        if leaderless:
            for call, close in tuple(self._open.items()):
                if _insists(call):
                    fail(call, NoLeader())
                    close()

    def stop(self, reason: BrainError) -> None:
        """End every stream, and new ones at once; clients resume later from the revision they have seen."""
        self._stopping = reason
        for call, close in tuple(self._open.items()):
            fail(call, reason)
            close()


def _insists(call: Call) -> bool:
    """Whether the client wants to be told when there is no leader (etcd's WithRequireLeader)."""
    return any(name == b"hasleader" and value == b"true" for name, value in call.metadata)


def _handle(watches: WatchStream, request: rpc.WatchRequest) -> None:
    """One request of a stream; one that asks nothing is passed over, as etcd does."""
    which = request.WhichOneof("request_union")
    if which == "create_request":
        watches.create(_spec(request.create_request))
    elif which == "cancel_request":
        watches.cancel(request.cancel_request.watch_id)
    elif which == "progress_request":
        watches.progress()


def _spec(request: rpc.WatchCreateRequest) -> WatchSpec:
    return WatchSpec(
        key=request.key,
        range_end=request.range_end,
        start_revision=request.start_revision,
        progress_notify=request.progress_notify,
        prev_kv=request.prev_kv,
        no_put=_NO_PUT in request.filters,
        no_delete=_NO_DELETE in request.filters,
        watch_id=request.watch_id,
        fragment=request.fragment,
    )
