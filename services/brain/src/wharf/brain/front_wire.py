"""wharf's own server in front of the API: everything on the client URLs, health and metrics on the metrics URLs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Final

from wharf.brain.config import BrainConfig
from wharf.brain.json_gateway.bodies import BodyLimits
from wharf.brain.json_gateway.gateway import JsonGateway
from wharf.brain.metrics import HandlingTimes, rpc_families
from wharf.brain.pages import allow_hosts, mount_for_hosts
from wharf.common.metrics import Family
from wharf.common.parsers import Url
from wharf.wire.http import HttpHandler
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Method, RpcLimits
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.tls import ClientAuth, TlsConfig, TlsIdentity

_UNBOUNDED_STREAMS: Final = 2**32 - 1  # etcd's default: then the wire's own bound holds
_PING_JITTER: Final = 0.8  # of the interval a client is told to keep


class WireFront:
    """One server for the API and one for probes, each on all its URLs."""

    def __init__(self, config: BrainConfig, methods: Sequence[Method], pages: HttpHandler) -> None:
        self._config = config
        times = self._times = HandlingTimes(monotonic) if config.metrics == "extensive" else None
        body_limits = BodyLimits(config.receive_max, config.max_txn_ops)
        self._gateway = JsonGateway(methods, body_limits, times) if config.enable_grpc_gateway else None
        self._api = GrpcServer(
            {method.path: method for method in methods},
            [client_listener(url, config) for url in config.listen_client_urls],
            http=allow_hosts(pages, config.host_whitelist),
            mount=None if self._gateway is None else mount_for_hosts(self._gateway.mount, config.host_whitelist),
            rpc_limits=RpcLimits(receive_max=config.receive_max),
            limits=connection_limits(config),
            on_start=None if times is None else times.on_start,
            on_end=None if times is None else times.on_end,
        )
        self._probes = ProbeServer(config, pages)
        self.addresses: tuple[str, ...] = ()
        self.probe_addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        await self._probes.start()
        self.probe_addresses = self._probes.addresses
        await self._api.start()
        self.addresses = _addresses(self._config.listen_client_urls, self._api.ports)

    async def drain(self, grace: float) -> None:
        await self._api.drain(grace)

    async def close(self) -> None:
        await self._api.close()
        if self._gateway is not None:
            await self._gateway.close()
        await self._probes.close()

    def families(self) -> Iterator[Family]:
        yield from rpc_families(self._api, {} if self._gateway is None else self._gateway.counts)
        if self._times is not None:
            yield from self._times.families()


class ProbeServer:
    """Health and metrics on the metrics URLs, whatever serves the API."""

    def __init__(self, config: BrainConfig, pages: HttpHandler) -> None:
        self._urls = config.listen_metrics_urls
        self._server = GrpcServer({}, [_listener(url, config) for url in self._urls], http=pages)
        self.addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        await self._server.start()
        self.addresses = _addresses(self._urls, self._server.ports)

    async def close(self) -> None:
        await self._server.close()


def _addresses(urls: Sequence[Url], ports: Sequence[int]) -> tuple[str, ...]:
    """Of each URL, with the port that it got; `ports` are those of the TCP listeners."""
    bound = iter(ports)
    return tuple(url.text if url.scheme == "unix" else replace(url, port=next(bound)).authority for url in urls)


def client_listener(url: Url, config: BrainConfig) -> ListenerConfig:
    """Where clients are served: by several processes, if there are workers."""
    return replace(_listener(url, config), reuse_port=config.workers > 0)


def _listener(url: Url, config: BrainConfig) -> ListenerConfig:
    if url.scheme == "unix":
        return ListenerConfig(unix_path=url.socket_path)
    host = "127.0.0.1" if url.host == "localhost" else url.host  # as Go listens: where clients look first
    return ListenerConfig(host, url.port or 0, tls=tls_config(config) if url.scheme == "https" else None)


def tls_config(config: BrainConfig) -> TlsConfig:
    """As etcd has it: a trusted CA alone is enough to require client certificates."""
    ca = config.trusted_ca_file
    return TlsConfig(
        identities=(
            TlsIdentity(
                cert_file=str(config.cert_file),
                key_file=str(config.key_file),
                client_ca_file=None if ca is None else str(ca),
                client_auth=ClientAuth.NONE if ca is None else ClientAuth.REQUIRE,
                client_names=config.client_cert_allowed_hostname,
            ),
        ),
        min_version=config.tls_min_version.removeprefix("TLS"),
        max_version=config.tls_max_version.removeprefix("TLS"),
        cipher_suites=config.cipher_suites,
    )


def connection_limits(config: BrainConfig) -> ConnectionLimits:
    """The wire's own bounds, with what etcd's flags say about pings and streams."""
    limits = ConnectionLimits(
        ping_interval_min=config.grpc_keepalive_min_time * _PING_JITTER,
        keepalive_interval=config.grpc_keepalive_interval or inf,
        keepalive_timeout=config.grpc_keepalive_timeout,
    )
    if config.max_concurrent_streams == _UNBOUNDED_STREAMS:
        return limits
    return replace(limits, concurrent_streams=config.max_concurrent_streams)
