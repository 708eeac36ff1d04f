"""One request through a whole gateway: what the server sees, and what the client gets."""

from __future__ import annotations

import json

import pytest
from gateway.serve.kit import answer, run, stack, until
from wharf.wire.web import Exchange

POD = b"/api/v1/namespaces/a/pods/b"


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_13_both_protocols_on_one_port(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            client = made.client(made.pki.alice, protocol)
            for _ in range(3):
                response = await made.ask(client)
                assert (response.status, response.body) == (200, b"{}")
            assert client.stats.dials == 1
            posted = await made.ask(client, method=b"POST", body=b"x" * 100_000)
            assert posted.status == 200
            assert made.servers[0].requests[-1].body == b"x" * 100_000

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_edge_1_the_certificate_names_the_user_and_nothing_else_does(protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            forged = [
                (b"x-remote-user", b"root"),
                (b"x-remote-group", b"system:masters"),
                (b"x_remote_user", b"root"),
                (b"x-remote-extra-scopes", b"all"),
                (b"x-remote-uid", b"1"),
                (b"x-forwarded-client-cert", b"By=root"),
                (b"authorization", b"Bearer stolen"),
            ]
            await made.ask(made.client(made.pki.alice, protocol), headers=forged)
            seen = made.servers[0].requests[0]
            assert seen.values(b"x-remote-user") == [b"alice"]
            assert seen.values(b"x-remote-group") == [b"dev", b"ops", b"system:authenticated"]
            assert seen.values(b"authorization") == []
            names = {name for name, _ in seen.headers}
            assert not names & {b"x_remote_user", b"x-remote-extra-scopes", b"x-remote-uid", b"x-forwarded-client-cert"}
            assert seen.exchange.connection.peer.certificate is not None
            assert seen.exchange.connection.peer.certificate.common_name == "front-proxy-client"

    run(main())


def test_edge_8_a_token_passes_through_on_a_connection_without_a_credential_of_ours() -> None:
    async def main() -> None:
        async with stack() as made:
            await made.ask(made.client(), headers=[(b"authorization", b"Bearer t"), (b"x-remote-user", b"root")])
            seen = made.servers[0].requests[0]
            assert seen.values(b"authorization") == [b"Bearer t"]
            assert not [name for name, _ in seen.headers if name.startswith(b"x-remote-")]
            assert seen.exchange.connection.peer.certificate is None

    run(main())


def test_edge_9_what_nobody_vouches_for_travels_apart() -> None:
    async def main() -> None:
        async with stack() as made:
            server = made.servers[0]

            def judge(exchange: Exchange) -> None:
                good = exchange.header(b"authorization") != b"Bearer bad"
                answer(exchange, status=200 if good else 401)

            server.behave = judge
            client, known = made.client(), made.client(made.pki.alice)
            await made.ask(known)
            await made.ask(client)  # anonymous
            for token in (b"good", b"good", b"bad", b"good"):
                await made.ask(client, headers=[(b"authorization", b"Bearer " + token)])
            vouched, anonymous, new, good, bad, again = (id(seen.exchange.connection) for seen in server.requests)
            assert len({vouched, anonymous, new, good}) == 4
            assert bad == new, "with those that no server has accepted yet"
            assert again == good

    run(main())


def test_edge_4_anonymous_requests_can_be_switched_off() -> None:
    async def main() -> None:
        async with stack() as made:
            await made.ask(made.client())
            assert made.servers[0].requests[0].values(b"x-remote-user") == [b"system:anonymous"]
            assert made.servers[0].requests[0].values(b"x-remote-group") == [b"system:unauthenticated"]
            await made.apply(made.document(authentication={"anonymous": False}))
            refused = await made.ask(made.client())
            assert (refused.status, json.loads(refused.body)["reason"]) == (401, "Unauthorized")

    run(main())


def test_requests_before_the_configuration_is_read_are_told_to_come_again() -> None:
    async def main() -> None:
        async with stack() as made:
            made.gateway.handler.starting = True
            early = await made.ask(made.client(), host=b"unknown.example.org")
            assert (early.status, early.header(b"x-wharf-gateway")) == (503, b"starting")
            made.gateway.handler.starting = False
            assert (await made.ask(made.client(), host=b"unknown.example.org")).status == 404

    run(main())


def test_edge_7_a_certificate_counts_only_for_the_cluster_that_verified_it() -> None:
    async def main() -> None:
        async with stack() as made:
            made.write(made.document("other", hostnames=["other.example.org"]))
            await until(lambda: "other" in made.gateway.registry.runtimes)
            await until(lambda: not made.gateway.unready())
            with_certificate, without = made.client(made.pki.alice), made.client()
            refused = await made.ask(with_certificate, host=b"other.example.org")
            assert refused.status == 421
            assert refused.header(b"x-wharf-gateway") == b"misdirected"
            assert (await made.ask(without, host=b"other.example.org")).status == 200
            assert made.servers[0].requests[-1].exchange.connection.peer.certificate is not None
            own = made.client(made.pki.alice, server_name="other")
            assert (await made.ask(own, host=b"other")).status == 200

    run(main())


def test_an_unknown_host_is_not_found() -> None:
    async def main() -> None:
        async with stack() as made:
            response = await made.ask(made.client(), host=b"nobody.example.org")
            assert response.status == 404
            assert "nobody.example.org" in json.loads(response.body)["message"]
            assert response.header(b"retry-after") is None
            assert (await made.ask(made.client(), host=b"127.0.0.1:6443")).status == 200, "by the TLS name"

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
@pytest.mark.parametrize(
    "target",
    [
        b"/api/v1/namespaces/a/pods/b%2Fc?x=a+b&x=a%20b&&y=;z&=",
        b"/api/v1//pods/?labelSelector=a%3Db,c%21%3Dd",
        b"/apis/x.y/v1/things/%E4%BD%A0/",
        b"/openapi/v3?hash=%2f%2F",
    ],
)
def test_edge_15_path_and_query_go_byte_for_byte(target: bytes, protocol: str) -> None:
    async def main() -> None:
        async with stack() as made:
            assert (await made.ask(made.client(made.pki.alice, protocol), target)).status == 200
            assert made.servers[0].requests[0].target == target

    run(main())


@pytest.mark.parametrize("target", [b"/api/v1/namespaces/a/../b/pods", b"/api/v1/%2e%2e/x", b"/api/v1/pods/%zz"])
def test_edge_15_what_could_be_read_in_two_ways_is_refused(target: bytes) -> None:
    async def main() -> None:
        async with stack() as made:
            response = await made.ask(made.client(made.pki.alice), target)
            assert (response.status, json.loads(response.body)["reason"]) == (400, "BadRequest")
            assert made.servers[0].requests == []

    run(main())


def test_edge_18_end_to_end_headers_pass_both_ways_untouched() -> None:
    async def main() -> None:
        sent = [
            (b"audit-id", b"a-1"),
            (b"user-agent", b"kubectl/v1.36"),
            (b"accept", b"application/vnd.kubernetes.protobuf"),
            (b"if-none-match", b'"e"'),
            (b"accept-encoding", b"gzip"),
            (b"x-custom", b"one"),
            (b"x-custom", b"two"),
        ]
        returned = [
            (b"audit-id", b"a-1"),
            (b"warning", b'299 - "first"'),
            (b"warning", b'299 - "second"'),
            (b"x-kubernetes-pf-flowschema-uid", b"f"),
            (b"x-kubernetes-pf-prioritylevel-uid", b"p"),
            (b"cache-control", b"no-cache, private"),
            (b"etag", b'"e"'),
            (b"vary", b"Accept"),
            (b"date", b"Wed, 25 Nov 2026 00:00:00 GMT"),
        ]
        async with stack() as made:
            made.servers[0].behave = lambda exchange: answer(exchange, headers=returned)
            for protocol in ("h2", "http1"):
                response = await made.ask(made.client(made.pki.alice, protocol), headers=sent)
                seen = made.servers[0].requests[-1]
                names = {name for name, _ in sent}
                assert [header for header in seen.headers if header[0] in names] == sent
                names = {name for name, _ in returned}
                assert [header for header in response.headers if header[0] in names] == returned
                assert response.header(b"x-wharf-server") == made.servers[0].name.encode()

    run(main())


def test_edge_18_no_user_agent_is_invented() -> None:
    async def main() -> None:
        async with stack() as made:
            await made.ask(made.client(made.pki.alice))
            names = {name for name, _ in made.servers[0].requests[0].headers}
            assert not names & {b"user-agent", b"accept-encoding", b"te", b"host"}

    run(main())


@pytest.mark.parametrize(("trusted", "expected"), [((), b"127.0.0.1"), (("127.0.0.0/8",), b"10.1.1.1, 127.0.0.1")])
def test_edge_19_forwarded_for_is_believed_from_configured_networks(trusted: tuple[str, ...], expected: bytes) -> None:
    async def main() -> None:
        async with stack(flags={"trusted_proxies": trusted}) as made:
            for _ in range(2):
                await made.ask(made.client(made.pki.alice), headers=[(b"x-forwarded-for", b"10.1.1.1")])
                assert made.servers[0].requests[-1].values(b"x-forwarded-for") == [expected]

    run(main())


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (b"application/json", "application/json"),
        (b"application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
        (b"application/yaml", "application/yaml"),
    ],
)
def test_edge_20_answers_of_the_gateway_are_statuses_in_the_clients_media_type(
    accept: bytes, content_type: str
) -> None:
    async def main() -> None:
        async with stack(features={"denyAll": True}) as made:
            response = await made.ask(made.client(), headers=[(b"accept", accept)])
            assert response.status == 429
            assert response.header(b"content-type") == content_type.encode()
            assert response.header(b"x-wharf-gateway") == b"deny_all"
            assert made.servers[0].requests == []

    run(main())


def test_edge_40_discovery_documents_pass_with_their_etags() -> None:
    async def main() -> None:
        async with stack() as made:

            def discover(exchange: Exchange) -> None:
                assert (
                    exchange.header(b"accept")
                    == b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                )
                if exchange.header(b"if-none-match") == b'"1"':
                    exchange.respond(304, [(b"etag", b'"1"')], end=True)
                else:
                    answer(exchange, b"d" * 3_000_000, headers=[(b"etag", b'"1"')])

            made.servers[0].behave = discover
            client = made.client(made.pki.alice)
            accept = (b"accept", b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            first = await made.ask(client, b"/apis", headers=[accept])
            assert (len(first.body), first.header(b"etag")) == (3_000_000, b'"1"')
            again = await made.ask(client, b"/apis", headers=[accept, (b"if-none-match", b'"1"')])
            assert (again.status, again.body) == (304, b"")

    run(main())
