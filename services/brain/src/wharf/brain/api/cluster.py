"""etcdserverpb.Cluster: one member, itself; changes are refused with etcd's own errors.

Membership here is not raft's: nodes share an engine and come and go by configuration, so there is nothing to add or
remove.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from wharf.brain.api import decode
from wharf.brain.api.node import Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.service import unary
from wharf.brain.errors import (
    MemberBadUrls,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
)
from wharf.wire.rpc import Call, Method


class ClusterApi:
    def __init__(self, node: Node) -> None:
        self._identity = node.identity
        self._member_id = node.store.member_id
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
        """This node; its header carries no revision, as etcd's does not."""
        decode.parse(rpc.MemberListRequest, data)
        identity = self._identity
        member = rpc.Member(
            ID=self._member_id, name=identity.name, peerURLs=identity.peer_urls, clientURLs=identity.client_urls
        )
        body = rpc.MemberListResponse(members=[member])
        call.reply(self._encoder.header(0) + body.SerializeToString())

    def member_add(self, data: bytes, call: Call) -> None:
        request = decode.parse(rpc.MemberAddRequest, data)
        if not request.peerURLs or not all(map(_is_peer_url, request.peerURLs)):
            raise MemberBadUrls
        if set(request.peerURLs) & set(self._identity.peer_urls):
            raise PeerUrlExists
        raise MemberNotEnoughStarted

    def member_remove(self, data: bytes, call: Call) -> None:
        self._must_be_self(decode.parse(rpc.MemberRemoveRequest, data).ID)
        raise MemberNotEnoughStarted

    def member_update(self, data: bytes, call: Call) -> None:
        self._must_be_self(decode.parse(rpc.MemberUpdateRequest, data).ID)
        raise MemberNotEnoughStarted

    def member_promote(self, data: bytes, call: Call) -> None:
        self._must_be_self(decode.parse(rpc.MemberPromoteRequest, data).ID)
        raise MemberNotLearner

    def _must_be_self(self, member_id: int) -> None:
        if member_id != self._member_id:
            raise MemberNotFound


def _is_peer_url(text: str) -> bool:
    """etcd's rule: http or https (or their unix forms), host and port, no path."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return url.scheme in ("http", "https", "unix", "unixs") and port is not None and bool(url.hostname) and not url.path
