"""--host-whitelist: requests under a name that is not allowed are refused."""

import json

import pytest
from brain.json_gateway.fakes import FakeExchange
from wharf.brain.pages import allow_hosts, mount_for_hosts
from wharf.wire.http import HttpExchange, HttpRequest, HttpResponse, Mount
from wharf.wire.rpc import Peer


def status(host: bytes, *allowed: str) -> int:
    request = HttpRequest("GET", "/health", ((b"host", host),) if host else (), b"", Peer("127.0.0.1:1"))
    return allow_hosts(lambda _: HttpResponse(200), allowed)(request).status


@pytest.mark.parametrize("host", [b"good.example", b"good.example:2379", b"GOOD.example", b"[::1]:2379", b"127.0.0.1"])
def test_allowed_hosts_are_served(host: bytes) -> None:
    assert status(host, "good.example", "::1", "127.0.0.1") == 200


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:2379", b"good.example.evil.example", b"[::1", b""])
def test_other_hosts_are_misdirected(host: bytes) -> None:
    assert status(host, "good.example") == 421


def test_every_host_is_served_by_default() -> None:
    assert status(b"evil.example", "*") == 200


@pytest.mark.parametrize(
    ("host", "hosts", "expected"),
    [(b"good.example:2379", ("good.example",), 200), (b"evil.example", ("good.example",), 421), (b"evil", ("*",), 200)],
)
def test_a_mount_is_protected_too(host: bytes, hosts: tuple[str, ...], expected: int) -> None:
    def answer(exchange: HttpExchange) -> None:
        exchange.respond(HttpResponse(200))

    exchange = FakeExchange("/v3/kv/range", {}, headers=((b"host", host),))
    mount_for_hosts(Mount("/v3/", answer, 100), hosts).handler(exchange)
    assert exchange.status == expected
    if expected == 421:
        assert dict(exchange.headers)[b"content-type"] == b"application/json"
        assert json.loads(exchange.body) == {
            "code": 7,
            "message": "the Host header names a host that --host-whitelist does not allow",
        }
