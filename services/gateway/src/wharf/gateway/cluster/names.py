"""Which cluster a request means: its Host, else the address it came to, else the name its TLS handshake asked for.

Invariant: a name or address belongs to one cluster; who claims what another one has already is not in the index
(`api.parse.check_set` decides that, and says so).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Generic, TypeVar

from wharf.gateway.api.shapes import Address

T = TypeVar("T")
CACHE_MAX: Final = 4096  # authorities remembered; a client can invent as many as it likes,
CACHED_BYTES_MAX: Final = 300  # and as long ones: a name has 253 characters at most


@dataclass(frozen=True, slots=True)
class Claim(Generic[T]):
    """What one cluster goes by."""

    cluster: T
    hostnames: tuple[str, ...]  # lower case; "*.x" stands for one label
    addresses: tuple[Address, ...] = ()


def parse_authority(authority: bytes) -> str | None:
    """The host of "Prod.Example.org:6443" or "[::1]:6443", in lower case; None when it is none.

    Source: RFC 9110 §7.2, RFC 3986 §3.2.2; user information is refused.
    """
    try:
        text = authority.decode("ascii").lower()
    except UnicodeDecodeError:
        return None
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not (port.startswith(":") and port[1:].isdigit())):
            return None
        try:
            return str(ip_address(host))
        except ValueError:
            return None
    host, colon, port = text.partition(":")
    if (colon and not port.isdigit()) or not host or not all(c.isalnum() or c in "-._" for c in host):
        return None
    return host.rstrip(".")


class Names(Generic[T]):
    """An index of clusters by name and address; made anew when the set of clusters changes."""

    def __init__(self, claims: Iterable[Claim[T]]) -> None:
        self._exact: dict[str, T] = {}
        self._wild: dict[str, T] = {}
        self._addresses: dict[str, T] = {}
        for claim in claims:
            for name in claim.hostnames:
                index = self._wild if name.startswith("*.") else self._exact
                index.setdefault(name.removeprefix("*."), claim.cluster)
            for address in claim.addresses:
                self._addresses.setdefault(str(address), claim.cluster)
        self._cache: dict[bytes, T] = {}

    def by_authority(self, authority: bytes) -> T | None:
        """The cluster that a Host header names, by hostname or by address."""
        found = self._cache.get(authority)
        if found is None:
            host = parse_authority(authority)
            found = None if host is None else self._addresses.get(host) or self.by_name(host)
            if found is not None and len(authority) <= CACHED_BYTES_MAX:
                if len(self._cache) >= CACHE_MAX:
                    self._cache.clear()
                self._cache[authority] = found
        return found

    def by_name(self, host: str) -> T | None:
        """`host` in lower case, without a port. "*.0.0.1" stands for no address: that would take another's clients."""
        found = self._exact.get(host)
        if found is not None or not self._wild:
            return found
        wild = self._wild.get(host.partition(".")[2])
        return wild if wild is not None and not _is_ip(host) else None

    def by_address(self, local: str) -> T | None:
        """The cluster whose address a client connected to: "10.0.0.5:6443"."""
        if not self._addresses:
            return None
        host = parse_authority(local.encode())
        return self._addresses.get(host) if host is not None else None

    @property
    def addresses(self) -> Mapping[str, T]:
        return self._addresses


def is_address(authority: bytes) -> bool:
    """Whether a Host header is an IP address: such clients cannot tell a name."""
    host = parse_authority(authority)
    return host is not None and _is_ip(host)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
