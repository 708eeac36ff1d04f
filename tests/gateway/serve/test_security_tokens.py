"""Bearer tokens that pass through: what counts as accepted, and that no spelling makes one token two."""

from __future__ import annotations

import base64
import json

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until
from gateway.serve.test_security_identity import raw
from wharf.wire.client import HttpPool
from wharf.wire.web import Exchange, Header

PATH = b"/api/v1/namespaces/a/pods/b"
NOW = {"interval": 0.1, "timeout": 1.0, "failures": 1}
EXEC = b"/api/v1/namespaces/a/pods/b/exec?command=sh"


def bearer(token: bytes) -> list[Header]:
    return [(b"authorization", b"Bearer " + token)]


def kube_apiserver(exchange: Exchange) -> None:
    """Answers as kube-apiserver does before and after authentication."""
    if exchange.method == b"OPTIONS":
        answer(exchange)
    elif b"timeout=x" in exchange.target:
        answer(exchange, status=400)
    elif b"timeout=1ns" in exchange.target:
        answer(exchange, status=504)
    elif exchange.header(b"authorization") == b"Bearer good":
        answer(exchange)
    else:
        answer(exchange, status=401)


async def status_of(made: Stack, client: HttpPool, method: bytes, target: bytes, token: bytes) -> int:
    return (await made.ask(client, target, method, bearer(token))).status


def test_a_token_that_no_server_has_authenticated_stays_apart_and_learns_nothing() -> None:
    async def main() -> None:
        async with stack(health=NOW) as made:
            server = made.servers[0]
            server.behave = kube_apiserver
            client = made.client()
            assert await status_of(made, client, b"GET", PATH, b"good") == 200
            assert await status_of(made, client, b"GET", PATH, b"good") == 200
            expected = {(b"OPTIONS", b"*"): 200, (b"GET", b"/version?timeout=x"): 400, (b"GET", b"/?timeout=1ns"): 504}
            for (method, target), status in expected.items():
                assert await status_of(made, client, method, target, b"bad") == status
            assert await status_of(made, client, b"GET", PATH, b"bad") == 401
            _, good, *bad = (id(seen.exchange.connection) for seen in server.requests)
            assert good not in bad
            server.ready = False
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            await until(lambda: endpoint.why(0).startswith("unhealthy"))
            refusals = {token: (await made.ask(client, headers=bearer(token))).body for token in (b"good", b"bad")}
            assert server.name.encode() in refusals[b"good"]
            assert server.name.encode() not in refusals[b"bad"]

    run(main())


@pytest.mark.parametrize("named", [b"authorization", b"close, Authorization", b"AUTHORIZATION ,close"])
def test_a_connection_header_that_names_the_credential_is_refused(named: bytes) -> None:
    async def main() -> None:
        async with stack() as made:
            head = b"GET " + PATH + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nConnection: "
            said = await raw(made, head + named + b"\r\n\r\n" + head + b"close\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400")
            assert b"the Connection header names authorization" in said
            assert not made.servers[0].requests or b"close" not in named
            said = await raw(made, head + b"x-other, close\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 200")
            assert made.servers[0].requests[-1].values(b"authorization") == [b"Bearer good"]

    run(main())


def test_a_connection_header_that_names_the_subprotocols_is_refused() -> None:
    async def main() -> None:
        async with stack() as made:
            word = b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"good").rstrip(b"=")
            head = b"GET " + EXEC + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            head += b"Sec-WebSocket-Protocol: v5.channel.k8s.io, " + word + b"\r\nConnection: Upgrade"
            made.servers[0].behave = lambda exchange: answer(exchange, status=403)
            assert (await raw(made, head + b", close\r\n\r\n")).startswith(b"HTTP/1.1 403")
            assert len(made.servers[0].requests) == 1
            said = await raw(made, head + b", close\r\nConnection: sec-websocket-protocol\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400")
            assert len(made.servers[0].requests) == 1

    run(main())


SPELLINGS = (
    b"Bearer good",
    b"bearer good",
    b"BEARER good",
    b"Bearer good text behind it",
    b"Bearer good other text",
    b"Bearer good\xc2\xa0",
)


def test_no_spelling_of_a_token_gets_a_limit_of_its_own() -> None:
    async def main() -> None:
        schema = {"name": "each", "qps": 0.001, "burst": 1, "key": "User"}
        policy = {"name": "all", "flowControl": ["each"]}
        async with stack(flowControl={"schemas": [schema]}, policies=[policy]) as made:
            client = made.client()
            answers = [await made.ask(client, headers=[(b"authorization", value)]) for value in SPELLINGS]
            assert [response.status for response in answers] == [200] + [429] * (len(SPELLINGS) - 1)
            assert (await made.ask(client, headers=bearer(b"other"))).status == 200

    run(main())


def test_no_spelling_of_a_token_goes_to_another_server() -> None:
    async def main() -> None:
        policy = {"name": "all", "balance": {"strategy": "ConsistentHash"}}
        async with stack(4, policies=[policy]) as made:
            client = made.client()
            for value in SPELLINGS:
                await made.ask(client, headers=[(b"authorization", value)])
            assert sorted(len(server.requests) for server in made.servers) == [0, 0, 0, len(SPELLINGS)]
            for at in range(40):
                await made.ask(client, headers=bearer(b"%d" % at))
            assert min(len(server.requests) for server in made.servers) > 0

    run(main())


def test_a_user_is_denied_by_certificate_and_by_reviewed_token() -> None:
    async def main() -> None:
        denial = {"name": "no", "rules": [{"users": ["alice"]}], "deny": {"status": 403}}
        async with stack(policies=[denial, {"name": "rest"}], authentication={"tokens": "Review"}) as made:
            server = made.servers[0]

            def review(exchange: Exchange) -> None:
                """A token is its user's name."""
                if not exchange.target.endswith(b"/tokenreviews"):
                    answer(exchange)
                    return
                token = json.loads(server.requests[-1].body)["spec"]["token"]
                status = {"authenticated": True, "user": {"username": token}}
                answer(exchange, json.dumps({"status": status}).encode(), 201)

            server.behave = review
            bob = made.pki.authority.issue("bob")
            codes = [(await made.ask(made.client(who))).status for who in (made.pki.alice, bob)]
            codes += [(await made.ask(made.client(), headers=bearer(name))).status for name in (b"alice", b"bob")]
            assert codes == [403, 200, 403, 200]

    run(main())
