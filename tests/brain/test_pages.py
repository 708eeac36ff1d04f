"""--host-whitelist: requests under a name that is not allowed are refused."""

import pytest
from wharf.brain.pages import allow_hosts
from wharf.wire.http import HttpRequest, HttpResponse
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
