"""One member that is always itself."""

from __future__ import annotations

import pytest
from brain.api.harness import CLUSTER, Server, run
from google.protobuf.message import Message
from wharf.brain.api.pb import rpc
from wharf.brain.errors import (
    BrainError,
    MemberBadUrls,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
)


def test_the_member_list_is_this_node() -> None:
    async def scenario(server: Server) -> None:
        listed = await server.client.ask(CLUSTER + "MemberList", rpc.MemberListRequest(), rpc.MemberListResponse)
        (member,) = listed.members
        assert (member.name, list(member.clientURLs)) == ("n1", ["http://127.0.0.1:2379"])
        assert member.ID == listed.header.member_id == server.node.store.member_id
        assert listed.header.revision == 0

    run(scenario)


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        ("MemberAdd", rpc.MemberAddRequest(), MemberBadUrls),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["127.0.0.1:1"]), MemberBadUrls),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://h:99999"]), MemberBadUrls),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:2380"]), PeerUrlExists),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:2390"]), MemberNotEnoughStarted),
        ("MemberRemove", rpc.MemberRemoveRequest(ID=1), MemberNotFound),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=1), MemberNotFound),
        ("MemberPromote", rpc.MemberPromoteRequest(ID=1), MemberNotFound),
    ],
)
def test_membership_does_not_change(method: str, request_: Message, error: type[BrainError]) -> None:
    async def scenario(server: Server) -> None:
        assert await server.client.refused(CLUSTER + method, request_) == (error.code, error.text)

    run(scenario)


def test_the_only_member_stays_and_is_no_learner() -> None:
    async def scenario(server: Server) -> None:
        own = server.node.store.member_id
        for method, request, error in (
            ("MemberRemove", rpc.MemberRemoveRequest(ID=own), MemberNotEnoughStarted),
            ("MemberPromote", rpc.MemberPromoteRequest(ID=own), MemberNotLearner),
        ):
            assert await server.client.refused(CLUSTER + method, request) == (error.code, error.text)

    run(scenario)
