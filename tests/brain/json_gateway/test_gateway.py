"""etcd's JSON paths over the whole API of a node, without a network."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from brain.api.authkit import PASSWORD, Users, both
from brain.api.harness import Server, run
from brain.json_gateway.fakes import FakeExchange
from wharf.brain.api.guard import Guard
from wharf.brain.auth.shapes import ROOT
from wharf.brain.errors import FutureRevision, Stopped
from wharf.brain.json_gateway.bodies import BodyLimits
from wharf.brain.json_gateway.call import THREAD_BYTES
from wharf.brain.json_gateway.gateway import JsonGateway
from wharf.brain.json_gateway.routes import ROUTES
from wharf.wire.rpc import Call, Kind, Method, Peer, PeerCertificate

RECEIVE_MAX = 2 * 1024 * 1024
LIMITS = BodyLimits(RECEIVE_MAX, 128)
JSON = ((b"content-type", b"application/json"),)
TOO_LARGE = f"grpc: received message larger than max ({RECEIVE_MAX + 5} vs. {RECEIVE_MAX})"
METADATA_TOKEN = b"grpc-metadata-token"


def text(value: bytes) -> str:
    return b64encode(value).decode()


class Json:
    """A client of the gateway."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.gateway = JsonGateway(server.api.methods, LIMITS)

    def begin(self, path: str, body: Any = None, **more: Any) -> FakeExchange:
        exchange = FakeExchange("/v3/" + path, body, **more)
        self.gateway.serve(exchange)
        return exchange

    async def ask(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """(status, JSON) of a call that ends."""
        exchange = self.begin(path, body, **more)
        await exchange.ended()
        return exchange.status, json.loads(exchange.body or b"null")


def play(scenario: Callable[[Json], Awaitable[None]]) -> None:
    async def body(server: Server) -> None:
        client = Json(server)
        await scenario(client)
        await client.gateway.close()

    run(body)


def test_every_method_of_the_api_has_a_path_but_the_streamed_range() -> None:
    async def scenario(client: Json) -> None:
        mapped = {route.method for route in ROUTES.values()}
        assert {method.path for method in client.server.api.methods} - mapped == {"/etcdserverpb.KV/RangeStream"}
        streams = {route.method for route in ROUTES.values() if route.client_streams or route.server_streams}
        kinds = {method.path: method.kind for method in client.server.api.methods}
        assert {path for path in mapped if kinds[path] is Kind.STREAM} == streams

    play(scenario)


def test_a_key_is_put_read_and_deleted() -> None:
    async def scenario(client: Json) -> None:
        store = client.server.node.store
        header = {"cluster_id": str(store.cluster_id), "member_id": str(store.member_id), "raft_term": "2"}
        key, value = text(b"k"), text(b"v")
        assert await client.ask("kv/put", {"key": key, "value": value}) == (200, {"header": header | {"revision": "2"}})
        status, found = await client.ask("kv/range", {"key": key})
        kv = {"key": key, "value": value, "create_revision": "2", "mod_revision": "2", "version": "1"}
        assert (status, found) == (200, {"header": header | {"revision": "2"}, "kvs": [kv], "count": "1"})
        status, found = await client.ask("kv/deleterange", {"key": key, "prevKv": True})
        assert (status, found["deleted"], found["prev_kvs"]) == (200, "1", [kv])
        assert await client.ask("kv/range", {"key": key}) == (200, {"header": header | {"revision": "3"}})

    play(scenario)


def test_the_header_of_an_answer_says_json() -> None:
    async def scenario(client: Json) -> None:
        exchange = client.begin("kv/range", {"key": text(b"k")})
        assert exchange.headers == JSON
        exchange = client.begin("kv/range", {})
        assert exchange.headers == JSON

    play(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "message"),
    [
        ("kv/range", None, 400, 3, "etcdserver: key is not provided"),
        ("kv/range", {"key": "YQ==", "revision": 9}, 400, 11, FutureRevision.text),
        ("kv/range", [], 400, 3, "proto: syntax error: unexpected token [, expected an object"),
        ("kv/put", {"key": "YQ==", "lease": 5}, 404, 5, "etcdserver: requested lease not found"),
        ("lease/revoke", {"ID": "5"}, 404, 5, "etcdserver: requested lease not found"),
        ("kv/lease/revoke", {"ID": "5"}, 404, 5, "etcdserver: requested lease not found"),
        ("auth/enable", {}, 400, 9, "etcdserver: root user does not exist"),
        ("election/leader", {"name": "YQ=="}, 500, 2, "election: no leader"),
        ("nothing", {}, 404, 5, "Not Found"),
        ("", {}, 404, 5, "Not Found"),
        ("kv/range/", {}, 404, 5, "Not Found"),
        ("kv/put", {"key": text(bytes(RECEIVE_MAX))}, 429, 8, TOO_LARGE),
        ("kv/put", {"key": text(bytes(1_600_000))}, 400, 3, "etcdserver: request is too large"),
    ],
)  # fmt: skip
def test_refusals_have_their_status_and_code(path: str, body: Any, status: int, code: int, message: str) -> None:
    async def scenario(client: Json) -> None:
        assert await client.ask(path, body) == (status, {"code": code, "message": message})

    play(scenario)


def test_other_methods_than_post_are_not_implemented() -> None:
    async def scenario(client: Json) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            found = await client.ask("kv/range", method=method)
            assert found == (501, {"code": 12, "message": "Method Not Allowed"})

    play(scenario)


def test_requests_of_web_pages_are_refused() -> None:
    """A browser sends such a POST without asking first; the same request without an origin is served."""

    async def scenario(client: Json) -> None:
        put = {"key": text(b"k")}
        for origin in (b"http://evil.example", b"null", b"http://127.0.0.1:2379"):
            status, found = await client.ask("kv/put", put, headers=((b"origin", origin), (b"host", b"127.0.0.1:2379")))
            assert (status, found["code"]) == (403, 7)
        assert client.server.node.store.revision == 1
        status, _ = await client.ask("kv/put", put, headers=((b"host", b"127.0.0.1:2379"),))
        assert (status, client.server.node.store.revision) == (200, 2)

    play(scenario)


def test_a_large_answer_is_whole() -> None:
    async def scenario(client: Json) -> None:
        for number in range(300):
            await client.server.put(b"k%03d" % number, bytes(1000))
        status, found = await client.ask("kv/range", {"key": text(b"k"), "range_end": text(b"l")})
        assert (status, found["count"], len(found["kvs"])) == (200, "300", 300)
        assert b64decode(found["kvs"][299]["key"]) == b"k299"

    play(scenario)


# streams


def events(exchange: FakeExchange) -> list[tuple[str, bytes]]:
    found = [event for line in exchange.lines for event in line["result"].get("events", ())]
    return [(event.get("type", "PUT"), b64decode(event["kv"]["key"])) for event in found]


def watch(key: bytes, **more: Any) -> dict[str, Any]:
    return {"create_request": {"key": text(key), "range_end": "AA==", **more}}


def test_a_watch_streams_results_line_by_line() -> None:
    async def scenario(client: Json) -> None:
        exchange = client.begin("watch", watch(b"\0"))
        assert (exchange.status, exchange.headers) == (200, JSON)
        assert exchange.lines[0]["result"]["created"] is True
        await client.server.put(b"a")
        await client.ask("kv/deleterange", {"key": text(b"a")})
        await exchange.until(lambda: len(events(exchange)) == 2)
        assert events(exchange) == [("PUT", b"a"), ("DELETE", b"a")]
        assert exchange.body.endswith(b"\n")
        assert not exchange.done

    play(scenario)


def test_a_watch_from_the_past_and_one_that_is_compacted() -> None:
    async def scenario(client: Json) -> None:
        for key in (b"a", b"b", b"c"):
            await client.server.put(key)
        past = client.begin("watch", watch(b"a", start_revision="3"))
        await past.until(lambda: len(events(past)) == 2)
        assert events(past) == [("PUT", b"b"), ("PUT", b"c")]
        await client.ask("kv/compaction", {"revision": 4})
        gone = client.begin("watch", watch(b"a", startRevision=2))
        await gone.until(lambda: len(gone.lines) == 2)
        assert gone.lines[1]["result"]["canceled"] is True
        assert gone.lines[1]["result"]["compact_revision"] == "4"

    play(scenario)


def test_several_requests_of_one_body_share_a_stream() -> None:
    async def scenario(client: Json) -> None:
        body = b"".join(json.dumps(watch(key)).encode() for key in (b"a", b"b")) + b'{"progress_request":{}}'
        exchange = client.begin("watch", body)
        ids = [line["result"].get("watch_id", "0") for line in exchange.lines]
        assert ids == ["0", "1", "-1"]

    play(scenario)


def test_a_client_that_leaves_takes_its_watchers_with_it() -> None:
    async def scenario(client: Json) -> None:
        hub = client.server.node.hub
        exchange = client.begin("watch", watch(b"\0"))
        assert (hub.streams, hub.watchers) == (1, 1)
        exchange.cancel()
        assert (hub.streams, hub.watchers) == (0, 0)
        await client.server.put(b"a")
        assert events(exchange) == []

    play(scenario)


def test_a_client_that_leaves_while_an_answer_is_made_leaves_nothing_behind() -> None:
    async def scenario(client: Json) -> None:
        exchange = client.begin("watch", watch(b"\0"))
        await client.server.put(b"a", bytes(THREAD_BYTES + 1))
        exchange.cancel()
        assert client.server.node.hub.watchers == 0
        await client.gateway.close()
        assert events(exchange) == []

    play(scenario)


def test_a_reader_that_stands_still_holds_its_watch_back_and_catches_up() -> None:
    async def scenario(client: Json) -> None:
        hub = client.server.node.hub
        exchange = client.begin("watch", watch(b"\0"))
        exchange.room = 0
        for number in range(50):
            await client.server.put(b"k%02d" % number)
        assert events(exchange) == []
        assert hub.slow_watchers == 1
        exchange.drain()
        await exchange.until(lambda: len(events(exchange)) == 50)
        assert [key for _, key in events(exchange)] == [b"k%02d" % number for number in range(50)]

    play(scenario)


def test_large_and_small_events_keep_their_order() -> None:
    async def scenario(client: Json) -> None:
        exchange = client.begin("watch", watch(b"\0"))
        for number in range(30):
            await client.server.put(b"k%02d" % number, bytes(0 if number % 3 else THREAD_BYTES + 1))
        await exchange.until(lambda: len(events(exchange)) == 30)
        assert [key for _, key in events(exchange)] == [b"k%02d" % number for number in range(30)]

    play(scenario)


def test_renewals_are_answered_one_by_one_and_the_stream_ends() -> None:
    async def scenario(client: Json) -> None:
        await client.ask("lease/grant", {"ID": 7, "TTL": 100})
        exchange = client.begin("lease/keepalive", b'{"ID":"7"}{"ID":8}')
        await exchange.ended()
        found = [(line["result"]["ID"], line["result"].get("TTL")) for line in exchange.lines]
        assert sorted(found) == [("7", "100"), ("8", None)]
        empty = client.begin("lease/keepalive")
        assert (empty.status, empty.body, empty.done) == (200, b"", True)

    play(scenario)


def test_a_body_that_is_broken_later_does_nothing() -> None:
    async def scenario(client: Json) -> None:
        status, found = await client.ask("watch", json.dumps(watch(b"a")).encode() + b" x")
        assert (status, found["code"]) == (400, 3)
        assert client.server.node.hub.streams == 0

    play(scenario)


def test_an_election_is_observed() -> None:
    async def scenario(client: Json) -> None:
        await client.ask("lease/grant", {"ID": 7, "TTL": 100})
        observed = client.begin("election/observe", {"name": text(b"e")})
        body = {"name": text(b"e"), "lease": "7", "value": text(b"me")}
        status, won = await client.ask("election/campaign", body)
        assert (status, b64decode(won["leader"]["key"])) == (200, b"e/7")
        await observed.until(lambda: observed.lines)
        assert b64decode(observed.lines[0]["result"]["kv"]["value"]) == b"me"
        observed.cancel()

    play(scenario)


def test_a_snapshot_is_a_stream_of_blobs() -> None:
    async def scenario(client: Json) -> None:
        await client.server.put(b"k", bytes(200_000))
        exchange = client.begin("maintenance/snapshot", {})
        await exchange.ended()
        blobs = [b64decode(line["result"].get("blob", "")) for line in exchange.lines]
        assert len(b"".join(blobs)) > 200_000

    play(scenario)


def test_a_stream_that_fails_later_says_so_in_its_last_line() -> None:
    async def scenario(client: Json) -> None:
        exchange = client.begin("watch", watch(b"\0"))
        client.server.api.stop_watching(Stopped())
        assert exchange.done
        assert exchange.lines[-1] == {"error": {"code": 14, "message": Stopped.text}}
        assert await client.ask("watch", watch(b"\0")) == (503, {"code": 14, "message": Stopped.text})

    play(scenario)


def test_a_handler_that_fails_is_answered_for() -> None:
    async def scenario(client: Json) -> None:
        def fail(data: bytes, call: Call) -> None:
            raise LookupError("a secret")

        gateway = JsonGateway([Method("/etcdserverpb.KV/Range", Kind.UNARY, fail)], LIMITS)
        exchange = FakeExchange("/v3/kv/range", {})
        gateway.serve(exchange)
        assert (exchange.status, b"secret" in exchange.body) == (500, False)
        missing = FakeExchange("/v3/kv/put", {})
        gateway.serve(missing)
        assert missing.status == 404

    play(scenario)


def test_a_client_may_wait_for_a_bounded_time() -> None:
    async def scenario(client: Json) -> None:
        hub = client.server.node.hub
        for headers in (((b"grpc-timeout", b"1m"),), ((b"grpc-timeout", b"1u"),)):
            exchange = client.begin("watch", watch(b"\0"), headers=headers)
            await exchange.ended()
            assert exchange.lines[-1] == {"error": {"code": 4, "message": "context deadline exceeded"}}
            assert hub.watchers == 0
        assert (await client.ask("kv/range", {}, headers=((b"grpc-timeout", b"x"),)))[0] == 400

    play(scenario)


# who calls


async def enable(client: Json) -> None:
    users = Users(client.server)
    await users.add("u", both(b"mine"))
    await users.enable()


def test_a_token_in_the_authorization_header_names_the_caller() -> None:
    async def scenario(client: Json) -> None:
        await enable(client)
        mine, foreign = {"key": text(b"mine")}, {"key": text(b"foreign")}
        refused = await client.ask("kv/range", mine)
        assert refused == (400, {"code": 3, "message": "etcdserver: user name is empty"})
        exchange = client.begin("kv/range", mine, headers=((b"authorization", b"nonsense"),))
        assert (exchange.status, dict(exchange.headers)[b"www-authenticate"]) == (
            401,
            b"etcdserver: invalid auth token",
        )
        wrong = await client.ask("auth/authenticate", {"name": "u", "password": "wrong"})
        assert (wrong[0], wrong[1]["code"]) == (400, 3)
        status, entered = await client.ask("auth/authenticate", {"name": "u", "password": PASSWORD})
        assert status == 200
        token = entered["token"].encode()
        for name, value in ((b"authorization", token), (b"authorization", b"Bearer " + token), (METADATA_TOKEN, token)):
            headers = ((name, value),)
            assert (await client.ask("kv/put", mine, headers=headers))[0] == 200
            denied = await client.ask("kv/put", foreign, headers=headers)
            assert denied == (403, {"code": 7, "message": "etcdserver: permission denied"})
            refused_watch = client.begin("watch", {"create_request": foreign}, headers=headers)
            assert refused_watch.lines[0]["result"]["canceled"] is True
            allowed = client.begin("watch", {"create_request": mine}, headers=headers)
            assert "canceled" not in allowed.lines[0]["result"]
            allowed.cancel()
            refused_watch.cancel()

    play(scenario)


def test_a_client_certificate_names_the_caller() -> None:
    async def scenario(client: Json) -> None:
        await enable(client)
        api = client.server.api
        guard = Guard(client.server.node, api.auth, api.tokens.uses, by_certificate=True)
        client.gateway = JsonGateway(guard.methods(api.handlers), LIMITS)
        for name, status in (("u", 200), ("other", 403)):
            peer = Peer("127.0.0.1:1", PeerCertificate(name, (), (), b""))
            assert (await client.ask("kv/put", {"key": text(b"mine")}, peer=peer))[0] == status
        root = Peer("127.0.0.1:1", PeerCertificate(ROOT, (), (), b""))
        assert (await client.ask("auth/user/list", peer=root))[1]["users"] == [ROOT, "u"]

    play(scenario)


def test_the_metadata_of_a_call_is_what_grpc_clients_send() -> None:
    seen: list[Any] = []

    def keep(data: bytes, call: Call) -> None:
        seen.append((tuple(call.metadata), call.deadline is not None))
        call.reply(b"")

    async def scenario() -> None:
        gateway = JsonGateway([Method("/etcdserverpb.KV/Range", Kind.UNARY, keep)], LIMITS)
        headers = (
            (b"authorization", b"t"),
            (b"grpc-metadata-hasleader", b"true"),
            (b"grpc-metadata-x-bin", b"AAE"),
            (b"traceparent", b"00-1"),
            (b"user-agent", b"curl"),
            (b"grpc-timeout", b"5S"),
        )
        gateway.serve(FakeExchange("/v3/kv/range", {}, headers=headers))
        refused = FakeExchange("/v3/kv/range", {}, headers=((b"grpc-metadata-x-bin", b"!"),))
        gateway.serve(refused)
        assert refused.status == 400

    asyncio.run(scenario())
    kept = ((b"authorization", b"t"), (b"hasleader", b"true"), (b"x-bin", b"\0\1"), (b"traceparent", b"00-1"))
    assert seen == [(kept, True)]


@pytest.mark.parametrize("answer", [b"\xff", b"\xff" * (THREAD_BYTES + 1)])
def test_an_answer_that_is_no_message_ends_the_call(answer: bytes) -> None:
    async def scenario() -> None:
        def say(data: bytes, call: Call) -> None:
            call.reply(answer)

        gateway = JsonGateway([Method("/etcdserverpb.KV/Range", Kind.UNARY, say)], LIMITS)
        exchange = FakeExchange("/v3/kv/range", {})
        gateway.serve(exchange)
        await exchange.ended()
        assert (exchange.status, exchange.lines[0]["code"]) == (500, 13)
        await gateway.close()

    asyncio.run(scenario())
