"""etcdserverpb.Lease: Grant, Revoke, KeepAlive, TimeToLive, Leases."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast
from weakref import WeakSet

from wharf.brain.api import decode
from wharf.brain.api.answered import AnsweredCall, Reply
from wharf.brain.api.encode import frame_values, number
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import fail, listen, stream, unary
from wharf.brain.errors import BrainError
from wharf.brain.store.ttl import Granted, Remaining
from wharf.wire.rpc import Call, Metadata, Method, Peer, UnaryHandler

_SERVICE = "/etcdserverpb.Lease/"
RENEW: Final = "/wharf.brain/LeaseRenew"
"""One renewal of a keep-alive stream; between nodes only."""


class LeaseApi:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self.renew_by: UnaryHandler = self.renew  # one renewal, with its permission check, on the node that leads
        self._header = node.encoder.header
        self._open: WeakSet[KeepAliveStream] = WeakSet()
        self._stopping: BrainError | None = None

    def stop(self, reason: BrainError) -> None:
        """End the keep-alive streams, and new ones at once."""
        self._stopping = reason
        for stream_ in tuple(self._open):
            stream_.fail(reason)

    def methods(self) -> list[Method]:
        return [
            unary(_SERVICE + "LeaseGrant", self.grant),
            unary(_SERVICE + "LeaseRevoke", self.revoke),
            stream(_SERVICE + "LeaseKeepAlive", self.keep_alive),
            unary(_SERVICE + "LeaseTimeToLive", self.time_to_live),
            unary(_SERVICE + "LeaseLeases", self.leases),
        ]

    def renewal(self) -> Method:
        """One renewal as a method, which nodes may call and clients may not."""
        return unary(RENEW, self.renew)

    def grant(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.LeaseGrantRequest, data)

        def done(granted: Granted | BrainError) -> None:
            if isinstance(granted, BrainError):
                fail(call, granted)
            else:
                body = number(0x10, granted.lease_id) + number(0x18, granted.ttl)
                call.reply(self._header(granted.revision) + body)

        self._store.leases.grant(request.ID, request.TTL, done)

    def revoke(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.LeaseRevokeRequest, data)

        def done(outcome: int | BrainError) -> None:
            if isinstance(outcome, BrainError):
                fail(call, outcome)
            else:
                call.reply(self._header(outcome))

        self._store.leases.revoke(request.ID, done)

    def keep_alive(self, call: Call) -> None:
        """A renewal per message; a lease that is gone answers with a TTL of 0."""
        if self._stopping is not None:
            raise self._stopping
        stream_ = KeepAliveStream(self.renew_by, call)
        self._open.add(stream_)
        listen(call, stream_.renew)
        call.on_half_close = stream_.half_close
        call.on_cancel = stream_.cancel

    def renew(self, data: bytes, call: Call) -> None:
        """One message of a keep-alive stream. The header comes first: a client never sees a lease alive at a revision
        at which it was gone.
        """
        lease_id = decode.parse_message(rpc.LeaseKeepAliveRequest, data).ID
        header = self._header(self._store.revision)

        def done(ttl: int | BrainError) -> None:
            if isinstance(ttl, BrainError):
                fail(call, ttl)
            else:
                call.reply(header + number(0x10, lease_id) + number(0x18, ttl))

        self._store.leases.keep_alive(lease_id, done)

    def time_to_live(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.LeaseTimeToLiveRequest, data)
        leases = self._store.leases

        def done(found: tuple[int, Remaining] | BrainError) -> None:
            if isinstance(found, BrainError):
                fail(call, found)
                return
            revision, left = found
            body = number(0x10, left.lease_id) + number(0x18, left.ttl) + number(0x20, left.granted_ttl)
            keys = frame_values(0x2A, left.keys) if request.keys else b""
            call.reply(self._header(revision) + body + keys)

        leases.tell(lambda: (leases.revision(), leases.time_to_live(request.ID)), done)

    def leases(self, data: bytes, call: Call) -> None:
        decode.parse(rpc.LeaseLeasesRequest, data)
        leases = self._store.leases

        def done(found: tuple[int, Sequence[int]] | BrainError) -> None:
            if isinstance(found, BrainError):
                fail(call, found)
                return
            revision, ids = found
            listed = frame_values(0x12, (number(0x08, lease_id) for lease_id in ids))
            call.reply(self._header(revision) + listed)

        leases.tell(lambda: (leases.revision(), leases.list()), done)


class KeepAliveStream:
    """One stream of renewals, answered in their order, whichever is done first. It ends when the client has sent its
    last message and everything is answered.
    """

    def __init__(self, renew: UnaryHandler, call: Call) -> None:
        self._renew = renew
        self._call = call
        self._renewals: deque[_Renewal] = deque()  # not answered yet, in order
        self._half_closed = False

    def renew(self, data: bytes) -> None:
        renewal = _Renewal(self._answer, self._call.metadata, self._call.peer)
        self._renewals.append(renewal)
        self._renew(data, cast(Call, renewal.call))

    def _answer(self) -> None:
        """Send the answers that no earlier renewal waits for."""
        while self._renewals and (reply := self._renewals[0].reply) is not None:
            self._renewals.popleft()
            if reply.code:
                self.cancel()
                self._call.finish(reply.code, reply.text)
                return
            self._call.send(reply.response)
        self._end_if_over()

    def half_close(self) -> None:
        self._half_closed = True
        self._end_if_over()

    def cancel(self) -> None:
        """The client is gone."""
        renewals, self._renewals = self._renewals, deque()
        for renewal in renewals:
            renewal.call.cancel()

    def fail(self, reason: BrainError) -> None:
        self.cancel()
        fail(self._call, reason)

    def _end_if_over(self) -> None:
        if self._half_closed and not self._renewals:
            self._call.finish()


class _Renewal:
    """One message of a stream, and its answer once there is one."""

    __slots__ = ("call", "reply")

    def __init__(self, answered: Callable[[], None], metadata: Metadata, peer: Peer) -> None:
        self.reply: Reply | None = None

        def done(reply: Reply) -> None:
            self.reply = reply
            answered()

        self.call = AnsweredCall(RENEW, done, metadata, peer)
