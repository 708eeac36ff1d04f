"""Several servers, some of which fail; documents that change while requests are under way."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from gateway.serve.kit import Server, Stack, answer, run, stack, until
from gateway.serve.test_streams import EVENT, WATCH, begin
from wharf.gateway.cluster import registry
from wharf.gateway.cluster.pools import Traffic
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.wire.web import Exchange

NOW = {"interval": 0.1, "timeout": 1.0, "failures": 2, "successes": 1, "slowStart": 0}


def served(made: Stack) -> Counter[str]:
    return Counter({server.name: len(server.requests) for server in made.servers})


def test_every_request_goes_to_the_next_server_whatever_connection_it_came_on() -> None:
    async def main() -> None:
        async with stack(3) as made:
            client = made.client(made.pki.alice)
            for _ in range(30):
                await made.ask(client)
            assert set(served(made).values()) == {10}
            assert client.stats.dials == 1

    run(main())


def test_edge_29_a_server_that_is_gone_costs_no_request() -> None:
    async def main() -> None:
        async with stack(2) as made:
            client = made.client(made.pki.alice)
            for _ in range(4):
                assert (await made.ask(client)).status == 200
            await made.servers[0].stop()
            for method, body in ((b"GET", b""), (b"POST", b"once"), (b"DELETE", b""), (b"PUT", b"x" * 1000)) * 3:
                assert (await made.ask(client, method=method, body=body)).status == 200
            posts = [seen for seen in made.servers[1].requests if seen.method == b"POST"]
            assert [bytes(seen.body) for seen in posts] == [b"once"] * 3

    run(main())


def test_edge_29_a_write_that_may_have_happened_is_not_repeated() -> None:
    async def main() -> None:
        async with stack(2) as made:

            def cut(exchange: Exchange) -> None:
                exchange.abort()

            for server in made.servers:
                server.behave = cut
            client = made.client(made.pki.alice)
            refused = await made.ask(client, method=b"POST", body=b"x")
            assert (refused.status, refused.header(b"retry-after")) == (503, b"1")
            assert sum(served(made).values()) == 1
            refused = await made.ask(client)
            assert refused.status == 503
            assert sum(served(made).values()) > 2, "a read is tried elsewhere"

    run(main())


def test_edge_28_a_server_that_goes_away_in_good_order_costs_no_request() -> None:
    async def main() -> None:
        async with stack(2, health=NOW, outliers={"eject": 0.1}) as made:
            client = made.client(made.pki.alice)
            stop = asyncio.Event()
            codes: Counter[int] = Counter()

            async def load() -> None:
                while not stop.is_set():
                    codes[(await made.ask(client, method=b"POST", body=b"b")).status] += 1

            tasks = [asyncio.create_task(load()) for _ in range(8)]
            for server in made.servers * 2:
                await until(lambda: sum(codes.values()) > 20)
                server.web.start_drain()
                await asyncio.sleep(0.05)
                server.web.stop_accepting()
                server.web.finish_drain()
                await server.web.closed(2.0)
                await server.stop()
                enough = sum(codes.values()) + 20
                await until(partial(_more_than, codes, enough))
                await server.start()
                index = made.servers.index(server)
                endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[index]
                await until(partial(_is_ready, made, endpoint))
            stop.set()
            await asyncio.gather(*tasks)
            assert set(codes) == {200}

    run(main())


def test_edge_21_no_server_at_all() -> None:
    async def main() -> None:
        async with stack(1, health=NOW) as made:
            made.servers[0].ready = False
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            await until(lambda: endpoint.why(0).startswith("unhealthy"))
            response = await made.ask(made.client(made.pki.alice))
            status = json.loads(response.body)
            assert (response.status, status["reason"]) == (503, "ServiceUnavailable")
            assert 1 <= int(response.header(b"retry-after") or 0) <= 5
            assert made.servers[0].name in status["message"]
            made.servers[0].ready = True
            await until(lambda: endpoint.why(0).startswith("ready"))
            assert (await made.ask(made.client(made.pki.alice))).status == 200

    run(main())


def test_edge_21_no_policy_matches() -> None:
    async def main() -> None:
        async with stack(policies=[{"name": "reads", "rules": [{"verbs": ["get"]}]}]) as made:
            client = made.client(made.pki.alice)
            assert (await made.ask(client)).status == 200
            refused = await made.ask(client, method=b"DELETE")
            assert (refused.status, refused.header(b"x-wharf-gateway")) == (403, b"no_policy")

    run(main())


def test_policies_choose_servers_and_refuse() -> None:
    async def main() -> None:
        async with stack(2) as made:
            writes, reads = (server.name for server in made.servers)
            await made.apply(
                made.document(
                    policies=[
                        {"name": "no-secrets", "rules": [{"resources": ["secrets"]}], "deny": {"status": 403}},
                        {"name": "reads", "rules": [{"verbs": ["get", "list", "watch"]}], "servers": [reads]},
                        {"name": "rest", "servers": [writes]},
                    ]
                )
            )
            client = made.client(made.pki.alice)
            assert (await made.ask(client, b"/api/v1/namespaces/a/secrets/s")).status == 403
            for _ in range(3):
                await made.ask(client)
                await made.ask(client, b"/api/v1/namespaces/a/pods", b"POST", body=b"p")
            assert {seen.method for seen in made.servers[0].requests} == {b"POST"}
            assert {seen.method for seen in made.servers[1].requests} == {b"GET"}

    run(main())


def test_edge_35_limits_are_given_back_on_every_way_out() -> None:
    async def main() -> None:
        flow = {"schemas": [{"name": "two", "maxInFlight": 2}]}
        async with stack(flowControl=flow, policies=[{"name": "all", "flowControl": ["two"]}]) as made:
            server, client = made.servers[0], made.client(made.pki.alice)
            server.behave = lambda exchange: None
            held = [await made.open(client, b"/api/v1/namespaces/a/pods/b") for _ in range(2)]
            await until(lambda: len(server.requests) == 2)
            refused = await made.ask(client)
            assert (refused.status, refused.header(b"retry-after")) == (429, b"1")
            assert "two" in json.loads(refused.body)["message"]
            event = await made.ask(client, b"/api/v1/namespaces/a/events", b"POST", body=b"e")
            assert (event.status, event.header(b"retry-after")) == (429, None)
            held[0].request.reset()  # the client goes
            server.requests[1].exchange.abort()  # the server fails; it is tried again there, and answered
            await until(lambda: server.requests[0].exchange.done)
            server.behave = begin
            watch = await made.open(client, WATCH)
            await until(lambda: watch.status == 200, "a watch is of another class")
            server.behave = answer
            for seen in server.requests:
                if not seen.exchange.done and b"watch" not in seen.target:
                    answer(seen.exchange)
            await until(lambda: held[1].over)
            for _ in range(5):
                assert (await made.ask(client)).status == 200

    run(main())


def test_edge_38_a_change_drops_no_stream_and_counts_from_the_next_request() -> None:
    async def main() -> None:
        async with stack(2) as made:
            client = made.client(made.pki.alice)
            for server in made.servers:
                server.behave = begin
            watches = [await made.open(client, WATCH) for _ in range(4)]
            await until(lambda: all(one.status == 200 for one in watches))
            for server in made.servers:
                server.behave = answer
            first = made.servers[0]
            changed = made.document(
                servers=[{"url": first.url}],
                features={"hideServer": True},
                upstream=made.document()["spec"]["upstream"]
                | {"token": {"value": "own-token"}, "identity": "Impersonation"},
            )
            await made.apply(changed)
            endpoint = made.gateway.registry.runtimes["prod"].members.endpoints[0]
            await until(partial(_is_ready, made, endpoint), "another kind of identity is probed anew")
            for _ in range(4):
                response = await made.ask(client)
                assert (response.status, response.header(b"x-wharf-server")) == (200, None)
            assert len(made.servers[1].requests) == 2, "a server that was removed gets nothing new"
            assert first.requests[-1].values(b"authorization") == [b"Bearer own-token"]
            assert first.requests[-1].values(b"impersonate-user") == [b"alice"]
            for server in made.servers:
                for seen in server.requests:
                    if seen.target == WATCH:
                        seen.exchange.send(EVENT)
            await until(lambda: all(one.body == EVENT for one in watches))

    run(main())


def test_edge_38_a_broken_document_leaves_the_last_good_one_in_force() -> None:
    async def main() -> None:
        async with stack() as made:
            made.write(made.document(servers=[{"url": "ftp://nowhere"}]))
            await until(lambda: made.gateway.registry.objects.refused)
            assert (await made.ask(made.client(made.pki.alice))).status == 200
            sight = json.loads(made.gateway.statuses()[0])["prod"]
            assert sight["accepted"] is False
            assert "spec.servers[0].url" in sight["problems"][0]

    run(main())


def test_edge_38_certificates_and_client_authorities_change_for_new_connections() -> None:
    async def main() -> None:
        async with stack() as made:
            pki, client = made.pki, made.client(made.pki.alice)
            assert (await made.ask(client)).status == 200
            serving = made.document()["spec"]["serving"] | {"clientCA": {"file": pki.other.ca_file}}
            await made.apply(made.document(serving=serving))
            await until(lambda: client.ready() is None, "it was verified against another authority")
            mallory = made.client(pki.mallory)
            assert (await made.ask(mallory)).status == 200
            assert made.servers[0].requests[-1].values(b"x-remote-user") == [b"mallory"]

    run(main())


def test_edge_39_a_removed_server_keeps_its_streams_until_they_end() -> None:
    async def main() -> None:
        async with stack(2) as made:
            client = made.client(made.pki.alice)
            for server in made.servers:
                server.behave = begin
            watches = [await made.open(client, WATCH) for _ in range(2)]
            await until(lambda: all(one.status == 200 for one in watches))
            await made.apply(made.document(servers=[{"url": made.servers[0].url}]))
            members = made.gateway.registry.runtimes["prod"].members
            assert [endpoint.name for endpoint in members.leaving] == [made.servers[1].name]
            made.servers[1].requests[0].exchange.finish()
            await until(lambda: sum(one.ended for one in watches) == 1)
            assert members.leaving == ()
            await until(lambda: not made.servers[1].web.connections, "its connections are closed")

    run(main())


def test_edge_37_it_is_ready_after_the_first_probes_and_not_before() -> None:
    async def main() -> None:
        async with stack() as made:
            assert made.gateway.registry.runtimes["prod"].prober.first_round_done.is_set()
            late = made.document("late", hostnames=["late.example.org"])
            hold = asyncio.Event()
            original: Server = made.servers[0]
            original.web.handler = _held(original, hold)
            made.write(late)
            await until(lambda: "late" in made.gateway.registry.runtimes)
            assert "late" in made.gateway.unready()
            hold.set()
            await until(lambda: not made.gateway.unready())

    run(main())


def _more_than(codes: Counter[int], number: int) -> bool:
    return sum(codes.values()) > number


def _is_ready(made: Stack, endpoint: Endpoint) -> bool:
    return endpoint.why(made.gateway.handler.now()).startswith("ready")


def _held(server: Server, hold: asyncio.Event) -> Callable[[Exchange], None]:
    handler = server.web.handler

    def handle(exchange: Exchange) -> None:
        if exchange.target != b"/readyz" or hold.is_set():
            handler(exchange)
            return
        task = asyncio.get_running_loop().create_task(hold.wait())
        task.add_done_callback(lambda _: None if exchange.done else answer(exchange, b"ok"))

    return handle


@pytest.mark.parametrize("sampled", [True, False])
def test_a_span_for_a_sampled_request_and_its_context_goes_on(sampled: bool) -> None:
    async def main() -> None:
        async with stack() as made:
            trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0" + (b"1" if sampled else b"0")
            await made.ask(made.client(made.pki.alice), headers=[(b"traceparent", trace)])
            told = made.servers[0].requests[0].values(b"traceparent")[0]
            assert told.split(b"-")[1] == trace.split(b"-")[1]
            if sampled:
                await until(lambda: made.spans)
                span = made.spans[0]
                assert told.split(b"-")[2] == span.context.span_id.hex().encode()
                assert span.attributes["http.response.status_code"] == 200
                assert span.attributes["k8s.resource"] == "pods"
            else:
                assert told == trace
                assert not made.spans

    run(main())


def test_the_access_log_tells_who_asked_what_and_no_secret() -> None:
    async def main() -> None:
        async with stack(logging={"access": True}) as made:
            secret = b"s3cr3t-token"
            await made.ask(made.client(made.pki.alice), b"/api/v1/namespaces/a/pods/b?token=s3cr3t&limit=1")
            await made.ask(made.client(), headers=[(b"authorization", b"Bearer " + secret), (b"cookie", secret)])
            await until(lambda: made.log.getvalue().count("\n") == 2)
            first, second = (json.loads(line) for line in made.log.getvalue().splitlines())
            assert (first["user"], first["status"], first["query"]) == ("alice", 200, "token=***&limit=1")
            assert "user" not in second
            assert "s3cr3t" not in made.log.getvalue()

    run(main())


def test_a_server_that_does_not_trust_the_gateway_as_a_front_proxy_gets_no_request() -> None:
    async def main() -> None:
        async with stack(2, health=NOW) as made:
            made.servers[1].trusts = False
            upstream = made.document()["spec"]["upstream"] | {"serverName": "prod"}
            await made.apply(made.document(health=NOW, upstream=upstream))
            endpoints = made.gateway.registry.runtimes["prod"].members.endpoints
            older = endpoints[1].pools
            await until(
                lambda: endpoints[0].pools.pool(Traffic.VOUCHED).target.server_name == "prod",
                "new ones are used once tried",
            )
            client = made.client(made.pki.alice)
            for _ in range(4):
                assert (await made.ask(client)).status == 200
            assert endpoints[1].pools is older, "those that were accepted before go on"
            made.servers[1].trusts = True
            await until(lambda: endpoints[1].pools.pool(Traffic.VOUCHED).target.server_name == "prod")

    run(main())


def test_a_gateway_that_nobody_trusts_serves_nobody() -> None:
    async def main() -> None:
        async with stack(health=NOW) as made:
            made.servers[0].trusts = False
            impersonating = made.document()["spec"]["upstream"] | {"identity": "Impersonation"}
            await made.apply(made.document(health=NOW, upstream=impersonating))
            await made.apply(made.document(health=NOW))  # back: at once, so that no header meets the other credential
            response = await made.ask(made.client(made.pki.alice))
            assert response.status == 503
            await until(lambda: "front proxy" in made.gateway.registry.runtimes["prod"].members.endpoints[0].why(0))
            response = await made.ask(made.client(made.pki.alice))
            assert b"front proxy" in response.body
            assert made.servers[0].requests == []

    run(main())


def test_a_deleted_cluster_takes_its_streams_with_it_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "GRACE", 0.2)

    async def main() -> None:
        async with stack() as made:
            client = made.client(made.pki.alice)
            made.servers[0].behave = begin
            watch = await made.open(client, WATCH)
            await until(lambda: watch.status == 200)
            (made.clusters / "prod.yaml").unlink()
            await until(lambda: not made.gateway.registry.runtimes)
            await until(lambda: watch.over)
            await until(lambda: not made.gateway.handler.active)

    run(main())
