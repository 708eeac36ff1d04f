"""Requests that another node forwards: the node that leads checks the permissions of the user they name."""

from __future__ import annotations

from typing import cast

from brain.api.harness import KV, Server, run
from brain.api.test_guard import DENIED, FOREIGN, MINE, SHARED, tenants
from google.protobuf.message import Message
from wharf.brain.api.answered import AnsweredCall, Caller, Reply
from wharf.brain.api.lease import RENEW
from wharf.brain.api.pb import rpc
from wharf.brain.errors import UserEmpty
from wharf.wire.rpc import Call


def forwarded(server: Server, method: str, request: Message, caller: Caller) -> Reply | None:
    """The answer to a request that another node forwards for `caller`; None: it is not refused at once."""
    replies: list[Reply] = []
    call = AnsweredCall(method, replies.append, caller=caller)
    server.api.for_nodes()[method](request.SerializeToString(), cast(Call, call))
    return replies[0] if replies else None


def test_the_leader_checks_the_permissions_of_forwarded_requests() -> None:
    async def scenario(server: Server) -> None:
        await tenants(server)
        version = server.api.auth_version
        mine, foreign = rpc.PutRequest(key=MINE), rpc.PutRequest(key=FOREIGN)
        assert forwarded(server, KV + "Put", mine, Caller("tenant", version)) is None
        for request, user, refusal in ((foreign, "tenant", DENIED), (mine, None, UserEmpty), (mine, "gone", DENIED)):
            reply = forwarded(server, KV + "Put", request, Caller(user, version))
            assert reply is not None
            assert reply.text == refusal.text
        renewal = rpc.LeaseKeepAliveRequest(ID=SHARED)
        reply = forwarded(server, RENEW, renewal, Caller("tenant", version))
        assert reply is not None
        assert reply.text == DENIED.text
        assert forwarded(server, RENEW, renewal, Caller("root", version)) is None

    run(scenario)
