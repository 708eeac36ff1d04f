"""Servers that are found instead of listed: the addresses of a DNS name, the endpoints of a Service.

What was found stays while nothing better is known: a resolver that fails takes no server away. Lists are in a fixed
order and bounded, so that the same answer is the same tuple and a wrong one can't fill the memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from wharf.gateway.api.shapes import Address, DnsDiscovery, Server, ServiceDiscovery

SERVERS_MAX: Final = 256
RESOLVE_TIMEOUT: Final = 10.0  # seconds
SERVICE_LABEL: Final = "kubernetes.io/service-name"

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]

log = logging.getLogger(__name__)


def make_server(address: Address, port: int, tls: bool, zone: str = "") -> Server:
    """A server by its address; IPv6 in brackets where a port follows."""
    host = str(address)
    name = f"[{host}]:{port}" if isinstance(address, IPv6Address) else f"{host}:{port}"
    return Server(name=name, url=f"{'https' if tls else 'http'}://{name}", host=host, port=port, tls=tls, zone=zone)


def servers_from_addresses(addresses: Iterable[str], discovery: DnsDiscovery) -> tuple[Server, ...]:
    """One server per address."""
    distinct = sorted({ip_address(text) for text in addresses}, key=_order)
    return tuple(make_server(address, discovery.port, discovery.tls) for address in distinct[:SERVERS_MAX])


def servers_from_slices(slices: Iterable[Mapping[str, Any]], discovery: ServiceDiscovery) -> tuple[Server, ...]:
    """The servers in a Service's EndpointSlices (discovery.k8s.io/v1 as JSON); slices of other Services are skipped.

    Ready endpoints; when there is none, those that still serve while they terminate. The port is found by the name it
    has in the Service, or by its number at the endpoint. Of several addresses of one endpoint the first counts: they
    are interchangeable. Source: EndpointSlice API, EndpointConditions and Endpoint.addresses.
    """
    ready: dict[str, Server] = {}
    terminating: dict[str, Server] = {}
    for piece in slices:
        if not _belongs(piece, discovery) or (port := _port(piece, discovery.port)) is None:
            continue
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            server = make_server(ip_address(endpoint["addresses"][0]), port, discovery.tls, endpoint.get("zone") or "")
            if conditions.get("ready") is not False:  # absent: unknown, to be taken as ready
                ready.setdefault(server.url, server)
            elif conditions.get("serving") and conditions.get("terminating"):
                terminating.setdefault(server.url, server)
    found = sorted((ready or terminating).values(), key=lambda server: (*_order(ip_address(server.host)), server.port))
    return tuple(found[:SERVERS_MAX])


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)


def _belongs(piece: Mapping[str, Any], discovery: ServiceDiscovery) -> bool:
    metadata = piece.get("metadata") or {}
    service = (metadata.get("labels") or {}).get(SERVICE_LABEL)
    here = (metadata.get("namespace"), service) == (discovery.namespace, discovery.name)
    return here and piece.get("addressType") in ("IPv4", "IPv6")


def _port(piece: Mapping[str, Any], wanted: str) -> int | None:
    for port in piece.get("ports") or ():
        number = port.get("port")
        if number is not None and wanted in (port.get("name") or "", str(number)):
            return int(number)
    return None


async def resolve_name(name: str, port: int) -> list[str]:
    """All addresses of a name, A and AAAA; OSError when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class DnsWatch:
    """Asks for a name's addresses again and again; `run` it in a task."""

    def __init__(
        self,
        discovery: DnsDiscovery,
        on_servers: Callable[[tuple[Server, ...]], None],
        resolve: Resolve = resolve_name,
        rng: random.Random | None = None,
    ) -> None:
        self.servers: tuple[Server, ...] = ()  # of the last answer
        self.problem = ""  # why the last try had none
        self.first_answer = asyncio.Event()  # or the first failure: nothing is gained by waiting on
        self.discovery = discovery
        self._on_servers = on_servers
        self._resolve = resolve
        self._random = (rng or random.Random()).random  # noqa: S311

    async def run(self) -> None:
        """Until cancelled. `on_servers` is called with each answer that differs from the one before."""
        while True:
            await self.ask()
            self.first_answer.set()
            await asyncio.sleep(self.discovery.refresh_seconds * (0.9 + 0.2 * self._random()))

    async def ask(self) -> None:
        """One look-up."""
        name = self.discovery.name
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                servers = servers_from_addresses(await self._resolve(name, self.discovery.port), self.discovery)
        except (OSError, ValueError) as error:
            problem = str(error) or "no answer"
            if problem != self.problem:
                log.warning("%s is not resolved, %d servers stay: %s", name, len(self.servers), problem)
            self.problem = problem
            return
        self.problem = ""
        if servers and servers != self.servers:
            self.servers = servers
            self._on_servers(servers)
