"""Tokens live as long as they are used."""

from __future__ import annotations

import time

from brain.api.harness import KV, LEASE, Server, run
from brain.api.test_guard import MINE, MINE_ONLY, tenants
from wharf.brain.api.pb import rpc
from wharf.brain.auth.token_use import RECORD_SHARE
from wharf.brain.errors import InvalidAuthToken


def test_a_token_is_over_after_its_time_without_a_use() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        token = (b"token", (await users.token("tenant")).encode())
        one = rpc.RangeRequest(key=MINE)
        ttl = server.node.limits.auth_token_ttl
        users.now = time.time()
        for _ in range(3):  # longer than the time to live counts from the login
            users.now += ttl - 1
            await users.client(token).ask(KV + "Range", one, rpc.RangeResponse)
        users.now += ttl * (1 + RECORD_SHARE) + 1
        assert (await users.client(token).refused(KV + "Range", one))[1] == InvalidAuthToken.text

    run(scenario)


def test_a_client_that_only_keeps_a_lease_alive_keeps_its_token() -> None:
    async def scenario(server: Server) -> None:
        users = await tenants(server)
        token = (b"token", (await users.token("tenant")).encode())
        users.now = time.time()
        stream = users.client(token).open(LEASE + "LeaseKeepAlive")
        for count in range(1, 4):
            users.now += server.node.limits.auth_token_ttl - 1
            stream.say(rpc.LeaseKeepAliveRequest(ID=MINE_ONLY))
            assert rpc.LeaseKeepAliveResponse.FromString((await stream.wait_sent(count))[-1]).TTL == 600
        users.now += 2 * server.node.limits.auth_token_ttl
        stream.say(rpc.LeaseKeepAliveRequest(ID=MINE_ONLY))
        await stream.ended.wait()
        assert stream.text == InvalidAuthToken.text

    run(scenario)
