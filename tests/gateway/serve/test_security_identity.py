"""Who tries to be somebody else, whichever way a name could slip through, and servers that change their minds."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until
from wharf.gateway.cluster import equipment
from wharf.wire.web import Header, Headers

HEALTH = {"interval": 0.1, "timeout": 1.0, "failures": 100}
NAMES = (
    *(b"X-Remote-User", b"x_remote_user", b"X-REMOTE-Group", b"X-Remote-Uid", b"X-Remote-Extra-Scopes"),
    *(b"Impersonate-User", b"impersonate_group", b"Impersonate-Extra-a", b"X-Forwarded-Client-Cert", b"Client-Cert"),
)
FORGED = tuple((name, b"system:masters") for name in NAMES)
PATH = b"/api/v1/namespaces/a/pods/b"


def told(headers: list[Header]) -> list[Header]:
    """What a server was told about who asks."""
    prefixes = (b"x-remote", b"impersonate", b"x-forwarded-client", b"client-cert", b"authorization")
    return [header for header in headers if header[0].lower().replace(b"_", b"-").startswith(prefixes)]


async def raw(made: Stack, data: bytes, who: Any = None) -> bytes:
    """What HTTP/1.1 bytes on a connection of their own are answered with, up to its end."""
    context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
    if who is not None:
        context.load_cert_chain(who.cert, who.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname="localhost")
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("upstream", ["HTTP2", "HTTP1"])
@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_01_no_trailer_is_an_identity(protocol: str, upstream: str) -> None:
    async def main() -> None:
        async with stack() as made:
            parts = made.document()["spec"]["upstream"] | {"protocol": upstream}
            await made.apply(made.document(upstream=parts))
            server = made.servers[0]
            opened = await made.open(made.client(made.pki.alice, protocol), PATH, (), b"POST", end=False)
            opened.request.send(b"{}")
            late: list[Header] = []
            await until(lambda: server.requests)
            seen = server.requests[0]

            def ended(trailers: Headers) -> None:
                late.extend(trailers)
                answer(seen.exchange)

            seen.exchange.on_end = ended
            opened.request.finish([(name.lower(), value) for name, value in FORGED] + [(b"x-sum", b"1")])
            await until(lambda: opened.over)
            assert opened.status == 200
            assert late == [(b"x-sum", b"1")]
            assert seen.values(b"x-remote-user") == [b"alice"]
            assert seen.values(b"x-remote-group") == [b"dev", b"ops", b"system:authenticated"]

    run(main())


def test_edge_02_each_pipelined_request_stands_for_itself() -> None:
    """Nothing that one request on a connection says, or proves, counts for the next one."""

    async def main() -> None:
        async with stack() as made:
            head = b"GET " + PATH + b" HTTP/1.1\r\nHost: localhost\r\n"
            forged = b"".join(b"%b: %b\r\n" % header for header in FORGED if not header[0].lower().startswith(b"imp"))
            requests = (
                head + b"Authorization: Bearer one\r\n\r\n",
                head + b"\r\n",
                head + forged + b"\r\n",
                head + b"Authorization: Basic YTpi\r\n\r\n",
                head + b"Authorization: Bearer three\r\nConnection: x-remote-user, close\r\nX-Remote-User: a\r\n\r\n",
            )
            said = await raw(made, b"".join(requests))
            assert said.count(b"HTTP/1.1 200") == len(requests)
            anonymous = [(b"x-remote-user", b"system:anonymous"), (b"x-remote-group", b"system:unauthenticated")]
            assert [told(seen.headers) for seen in made.servers[0].requests] == [
                [(b"authorization", b"Bearer one")],
                anonymous,
                anonymous,
                anonymous,
                [(b"authorization", b"Bearer three")],
            ]
            vouched = [seen.exchange.connection.peer.certificate is not None for seen in made.servers[0].requests]
            assert vouched == [False, True, True, True, False]

    run(main())


def test_edge_03_a_server_that_trusts_the_gateway_no_more_gets_no_further_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restarted with other flags it would take every client for the owner of the gateway's certificate."""
    monkeypatch.setattr(equipment, "TRUST_SECONDS", 0.0)

    async def main() -> None:
        async with stack(health=HEALTH) as made:
            client = made.client(made.pki.alice)
            assert (await made.ask(client)).status == 200
            server = made.servers[0]
            server.trusts = False
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            await until(lambda: "front proxy" in endpoint.why(0), "one answer is enough")
            server.requests.clear()
            assert (await made.ask(client)).status == 503
            assert not server.requests
            server.trusts = True

    run(main())


def test_a_server_says_nothing_in_the_gateways_name() -> None:
    async def main() -> None:
        async with stack() as made:
            forged = [(b"x-wharf-gateway", b"denied"), (b"X_Wharf_Server".lower(), b"other"), (b"x-wharf-server", b"o")]
            made.servers[0].behave = lambda exchange: answer(exchange, headers=forged)
            for protocol in ("h2", "http1"):
                response = await made.ask(made.client(made.pki.alice, protocol))
                found = [header for header in response.headers if b"wharf" in header[0]]
                assert found == [(b"x-wharf-server", made.servers[0].name.encode())]

    run(main())
