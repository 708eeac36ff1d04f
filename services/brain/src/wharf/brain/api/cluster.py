"""etcdserverpb.Cluster: who belongs here; additions are refused with etcd's own errors.

Membership here is not raft's: nodes share an engine and come and go by configuration, so there is nothing to add or
be added by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from wharf.brain.api import decode
from wharf.brain.api.members import META_MEMBERS, Member, encode_members
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import fail, unary
from wharf.brain.errors import (
    BrainError,
    MemberBadUrls,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
)
from wharf.wire.rpc import Call, Method


class ClusterApi:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._cluster = node.cluster
        self._encoder = node.encoder

    def methods(self) -> list[Method]:
        service = "/etcdserverpb.Cluster/"
        return [
            unary(service + "MemberList", self.member_list),
            unary(service + "MemberAdd", self.member_add),
            unary(service + "MemberRemove", self.member_remove),
            unary(service + "MemberUpdate", self.member_update),
            unary(service + "MemberPromote", self.member_promote),
        ]

    def member_list(self, data: bytes, call: Call) -> None:
        """Every node; the header carries no revision, as etcd's does not."""
        decode.parse(rpc.MemberListRequest, data)
        call.reply(self._listed(self._cluster.members()))

    def member_add(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.MemberAddRequest, data)
        if not request.peerURLs or not all(map(_is_peer_url, request.peerURLs)):
            raise MemberBadUrls
        if set(request.peerURLs) & {url for member in self._cluster.members() for url in member.peer_urls}:
            raise PeerUrlExists
        raise MemberNotEnoughStarted

    def member_remove(self, data: bytes, call: Call) -> None:
        """A member that is gone is forgotten; one that is there cannot be taken away, only stopped."""
        member_id = self._known(decode.parse(rpc.MemberRemoveRequest, data).ID)
        if self._cluster.is_connected(member_id):
            raise MemberNotEnoughStarted
        left = self._cluster.remove(member_id)

        def done(error: BrainError | None) -> None:
            if error is not None:
                fail(call, error)
            else:
                call.reply(self._listed(left))

        self._store.write_meta([(META_MEMBERS, encode_members(left))], done)

    def member_update(self, data: bytes, call: Call) -> None:
        self._known(decode.parse(rpc.MemberUpdateRequest, data).ID)
        raise MemberNotEnoughStarted

    def member_promote(self, data: bytes, call: Call) -> None:
        self._known(decode.parse(rpc.MemberPromoteRequest, data).ID)
        raise MemberNotLearner

    def _known(self, member_id: int) -> int:
        if member_id not in [member.member_id for member in self._cluster.members()]:
            raise MemberNotFound
        return member_id

    def _listed(self, members: Iterable[Member]) -> bytes:
        """MemberListResponse and MemberRemoveResponse, which have the same fields."""
        listed = [
            rpc.Member(ID=each.member_id, name=each.name, peerURLs=each.peer_urls, clientURLs=each.client_urls)
            for each in members
        ]
        return self._encoder.header(0) + rpc.MemberListResponse(members=listed).SerializeToString()


def _is_peer_url(text: str) -> bool:
    """etcd's rule: http or https (or their unix forms), host and port, no path."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme in ("http", "https", "unix", "unixs") and port is not None and bool(url.hostname) and not url.path
