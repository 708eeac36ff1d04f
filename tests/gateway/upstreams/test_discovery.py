"""Servers that are found: addresses of a name, endpoints of a Service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.shapes import DnsDiscovery, Server, ServiceDiscovery
from wharf.gateway.upstreams.discovery import (
    SERVERS_MAX,
    DnsWatch,
    resolve_name,
    servers_from_addresses,
    servers_from_slices,
)

DNS = DnsDiscovery("api.example.org", refresh_seconds=0.001)
SERVICE = ServiceDiscovery("default", "kubernetes")


def endpoint(address: str, ready: bool | None = True, zone: str = "", **conditions: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"addresses": [address, "192.0.2.99"], "conditions": {"ready": ready, **conditions}}
    return {**made, "zone": zone} if zone else made


def piece(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    metadata = {"namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    ports = [{"name": "https", "port": 6443, "protocol": "TCP"}]
    return {"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": list(endpoints), **fields}


def names(servers: Iterable[Server]) -> list[str]:
    return [server.name for server in servers]


def test_each_address_is_a_server() -> None:
    found = servers_from_addresses(["10.0.0.2", "2001:db8::1", "10.0.0.1", "10.0.0.2"], DNS)
    assert names(found) == ["10.0.0.1:6443", "10.0.0.2:6443", "[2001:db8::1]:6443"]
    assert found[2] == Server("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", "2001:db8::1", 6443, True)
    assert servers_from_addresses(["10.0.0.1"], DnsDiscovery("x", 80, False))[0].url == "http://10.0.0.1:80"


@given(st.lists(st.ip_addresses().map(str), max_size=20), st.randoms())
def test_the_order_of_an_answer_does_not_matter(addresses: list[str], chance: Any) -> None:
    shuffled = list(addresses)
    chance.shuffle(shuffled)
    assert servers_from_addresses(addresses, DNS) == servers_from_addresses(shuffled, DNS)


def test_an_answer_without_end_is_cut() -> None:
    many = [f"10.0.{high}.{low}" for high in range(4) for low in range(256)]
    assert len(servers_from_addresses(many, DNS)) == SERVERS_MAX
    assert len(servers_from_slices([piece(*map(endpoint, many))], SERVICE)) == SERVERS_MAX


def test_ready_endpoints_of_all_slices_of_the_service() -> None:
    other = piece(endpoint("10.0.0.9"), metadata={"namespace": "default", "labels": {}})
    elsewhere = piece(endpoint("10.0.0.8"))
    elsewhere["metadata"] = {**elsewhere["metadata"], "namespace": "other"}
    v6 = piece(endpoint("2001:db8::1", zone="north"), addressType="IPv6")
    named = piece(endpoint("host.example.org"), addressType="FQDN")
    first = piece(endpoint("10.0.0.2"), endpoint("10.0.0.3", False))
    second = piece(endpoint("10.0.0.1", None), endpoint("10.0.0.2"))
    found = servers_from_slices([v6, first, second, other, elsewhere, named], SERVICE)
    assert names(found) == ["10.0.0.1:6443", "10.0.0.2:6443", "[2001:db8::1]:6443"]
    assert [server.zone for server in found] == ["", "", "north"]


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([endpoint("10.0.0.1", True), endpoint("10.0.0.2", False, serving=True, terminating=True)], ["10.0.0.1:6443"]),
        ([endpoint("10.0.0.2", False, serving=True, terminating=True)], ["10.0.0.2:6443"]),
        ([endpoint("10.0.0.2", False, serving=False, terminating=True)], []),
        ([endpoint("10.0.0.2", False, serving=True)], []),
        ([{"addresses": ["10.0.0.1"]}], ["10.0.0.1:6443"]),
    ],
)
def test_what_terminates_serves_only_when_nothing_else_does(
    endpoints: list[dict[str, Any]], expected: list[str]
) -> None:
    assert names(servers_from_slices([piece(*endpoints)], SERVICE)) == expected


@pytest.mark.parametrize(
    ("wanted", "ports", "expected"),
    [
        ("https", [{"name": "metrics", "port": 1}, {"name": "https", "port": 2}], ["10.0.0.1:2"]),
        ("6443", [{"name": "https", "port": 6443}], ["10.0.0.1:6443"]),
        ("", [{"name": "", "port": 3}], ["10.0.0.1:3"]),
        ("", [{"port": 3}], ["10.0.0.1:3"]),
        ("https", [{"name": "other", "port": 6443}], []),
        ("https", [{"name": "https"}], []),  # no port: every one
        ("https", None, []),
    ],
)
def test_the_port_is_found_by_name_or_number(
    wanted: str, ports: list[dict[str, Any]] | None, expected: list[str]
) -> None:
    found = servers_from_slices(
        [piece(endpoint("10.0.0.1"), ports=ports)], ServiceDiscovery("default", "kubernetes", wanted)
    )
    assert names(found) == expected


def test_a_service_without_endpoints_has_no_servers() -> None:
    assert servers_from_slices([], SERVICE) == ()
    assert servers_from_slices([piece(endpoints=None)], SERVICE) == ()


class Resolver:
    """Answers in turn; an exception is raised; the last one stays."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked = asyncio.Semaphore(0)

    async def __call__(self, name: str, port: int) -> list[str]:
        assert (name, port) == (DNS.name, DNS.port)
        self.asked.release()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_name_is_asked_again_and_only_changes_are_told() -> None:
    async def main() -> None:
        resolver = Resolver(["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"], ["10.0.0.3"])
        told: asyncio.Queue[tuple[Server, ...]] = asyncio.Queue()
        watch = DnsWatch(DNS, told.put_nowait, resolver)
        task = asyncio.create_task(watch.run())
        async with asyncio.timeout(10):
            assert names(await told.get()) == ["10.0.0.1:6443", "10.0.0.2:6443"]
            assert names(await told.get()) == ["10.0.0.3:6443"]
            for _ in range(5):
                await resolver.asked.acquire()
        assert watch.first_answer.is_set()
        assert told.empty()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
        (TimeoutError(), "no answer"),
        (["no address"], "'no address' does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_a_resolver_that_fails_takes_no_server_away(failure: list[str] | Exception, problem: str) -> None:
    async def main() -> None:
        told: list[tuple[Server, ...]] = []
        watch = DnsWatch(DNS, told.append, Resolver(["10.0.0.1"], failure, failure, [], ["10.0.0.1"]))
        await watch.ask()
        await watch.ask()
        assert watch.problem == problem
        await watch.ask()
        await watch.ask()
        assert names(watch.servers) == ["10.0.0.1:6443"]
        await watch.ask()
        assert (watch.problem, len(told)) == ("", 1)

    asyncio.run(main())


def test_the_systems_resolver_is_asked() -> None:
    async def main() -> None:
        assert set(await resolve_name("localhost", 6443)) <= {"127.0.0.1", "::1"}
        assert await resolve_name("192.0.2.1", 6443) == ["192.0.2.1"]

    asyncio.run(main())
