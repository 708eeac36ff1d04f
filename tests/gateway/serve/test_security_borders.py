"""What strangers learn, what they cost, and what cannot be carried over a border that was once opened."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest
from gateway.serve.kit import PATIENCE, answer, run, stack, until
from wharf.gateway.limits.upgrade_permits import PERMITS
from wharf.wire.web import Exchange

NOW = {"interval": 0.1, "timeout": 1.0, "failures": 1}
EXEC = b"/api/v1/namespaces/a/pods/b/exec?command=sh"
SMUGGLED = (
    b"GET /api/v1/secrets HTTP/1.1\r\nHost: localhost\r\nX-Remote-User: root\r\nX-Remote-Group: system:masters\r\n\r\n"
)


def test_servers_and_their_state_are_told_to_nobody_unproven() -> None:
    async def main() -> None:
        async with stack(1, health=NOW) as made:
            token = [(b"authorization", b"Bearer t")]
            tokens = made.client()
            assert (await made.ask(tokens, headers=token)).status == 200  # accepted once
            server = made.servers[0]
            server.ready = False
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            await until(lambda: endpoint.why(0).startswith("unhealthy"))
            told = {
                "alice": await made.ask(made.client(made.pki.alice)),
                "token": await made.ask(tokens, headers=token),
                "garbage": await made.ask(tokens, headers=[(b"authorization", b"Bearer garbage")]),
                "anonymous": await made.ask(tokens),
            }
            assert {response.status for response in told.values()} == {503}
            knows = {who for who, response in told.items() if server.name.encode() in response.body}
            assert knows == {"alice", "token"}
            await made.apply(made.document(health=NOW, features={"hideServer": True}))
            hidden = await made.ask(made.client(made.pki.alice))
            assert (hidden.status, server.name.encode() in hidden.body) == (503, False)
            assert hidden.header(b"x-wharf-server") is None

    run(main())


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1", b"SPDY/3.1, h2c", b"h2c", b"tls/1.2"])
def test_edge_32_a_refused_upgrade_opens_no_way_past_the_gateway(protocol: bytes, status: int) -> None:
    """Behind the request the connection upstream would carry whatever a client writes, vouched for by the gateway."""

    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = lambda exchange: answer(exchange, b"no", status)
            context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
            context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
            streams = await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname="localhost")
            reader, writer = streams
            head = b"GET " + EXEC + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: " + protocol
            last = SMUGGLED.replace(b"Host", b"Connection: close\r\nHost")
            writer.write(head + b"\r\n\r\n" + SMUGGLED + last)
            async with asyncio.timeout(PATIENCE):
                while await reader.read(65536):
                    pass
            writer.transport.abort()
            await until(lambda: not made.gateway.handler.active)
            users = [seen.values(b"x-remote-user") for seen in made.servers[0].requests]
            assert users == [[b"alice"]] * len(users)
            assert all(seen.values(b"x-remote-group")[0] == b"dev" for seen in made.servers[0].requests)

    run(main())


def test_edge_08_garbage_tokens_cost_a_cluster_so_many_reviews_at_a_time() -> None:
    async def main() -> None:
        async with stack(authentication={"tokens": "Review"}) as made:
            server = made.servers[0]
            held: list[Exchange] = []
            server.behave = held.append
            client = made.client()
            garbage = [
                await made.open(client, b"/api/v1/pods", [(b"authorization", b"Bearer g%d" % number)])
                for number in range(200)
            ]
            await until(lambda: len(held) == 64)
            answered = set()

            def refuse(exchange: Exchange) -> None:
                answered.add(exchange)
                answer(exchange, json.dumps({"status": {"authenticated": False}}).encode(), 201)

            most = len(held)
            while not all(opened.over for opened in garbage):
                for exchange in [one for one in held if one not in answered]:
                    refuse(exchange)
                await asyncio.sleep(0)
                most = max(most, len(held) - len(answered))
            assert most <= 64
            assert {opened.status for opened in garbage} == {401}
            assert not made.gateway.handler.active

    run(main())


def test_upgrades_of_strangers_cost_a_server_so_many_handshakes_at_a_time() -> None:
    async def main() -> None:
        async with stack(timeouts={"connect": 30}) as made:
            held: list[Exchange] = []
            server = made.servers[0]
            server.behave = held.append
            context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
            ask = b"GET " + EXEC + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            strangers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for number in range(40):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", made.port, ssl=context, server_hostname="localhost"
                )
                made.down.callback(writer.transport.abort)
                writer.write(ask + (b"Authorization: Bearer g%d\r\n" % number if number % 2 else b"") + b"\r\n")
                strangers.append((reader, writer))
            active = made.gateway.handler.active
            await until(lambda: len(held) == PERMITS and len(active) == len(strangers))
            context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", made.port, ssl=context, server_hostname="localhost"
            )
            made.down.callback(writer.transport.abort)
            writer.write(ask + b"\r\n")
            await until(lambda: len(held) == PERMITS + 1, "she does not stand in their queue")
            server.behave = lambda exchange: answer(exchange, b"no", 403)
            for exchange in held:
                answer(exchange, b"no", 403)
            async with asyncio.timeout(PATIENCE):
                for waiting in (*(reader for reader, _ in strangers), reader):
                    assert (await waiting.readline()).startswith(b"HTTP/1.1 403")

    run(main())
