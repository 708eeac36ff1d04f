"""The reference front end: the same methods under grpcio, for comparing the wire with.

It speaks no HTTP/1.1: health and metrics are on --listen-metrics-urls only, and addresses that share a port get one
server each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wharf.brain.config import BrainConfig
from wharf.brain.front_wire import ProbeServer
from wharf.common.metrics import Family
from wharf.wire.http import HttpHandler
from wharf.wire.rpc import Method, RpcLimits
from wharf.wire.tcp import ListenError

if TYPE_CHECKING:
    import grpc
    import grpc.aio


class GrpcioFront:
    """grpc.aio servers for the client URLs."""

    def __init__(self, config: BrainConfig, methods: Sequence[Method], pages: HttpHandler) -> None:
        self._config = config
        self._methods = {method.path: method for method in methods}
        self._servers: list[grpc.aio.Server] = []
        self._probes = ProbeServer(config, pages)
        self.addresses: tuple[str, ...] = ()
        self.probe_addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        from wharf.wire.grpcio_front import serve_grpcio  # noqa: PLC0415 only this front end loads grpcio

        await self._probes.start()
        self.probe_addresses = self._probes.addresses
        for url in self._config.listen_client_urls:
            credentials = self._credentials() if url.scheme == "https" else None
            try:
                server, ports = await serve_grpcio(
                    self._methods,
                    [f"unix:{url.socket_path}" if url.scheme == "unix" else url.authority],
                    credentials=credentials,
                    limits=RpcLimits(receive_max=self._config.receive_max),
                )
            except RuntimeError as error:  # grpcio's word for an address that cannot be had
                raise ListenError(None, url.host, url.port or 0, str(error), url.socket_path) from error
            self._servers.append(server)
            if url.scheme == "unix":
                self.addresses += (url.text,)
            else:
                self.addresses += tuple(replace(url, port=port).authority for port in ports)

    async def drain(self, grace: float) -> None:
        for server in self._servers:
            await server.stop(grace)

    async def close(self) -> None:
        for server in self._servers:
            await server.stop(None)
        await self._probes.close()

    def families(self) -> Iterable[Family]:
        """grpcio counts nothing for us."""
        return ()

    def _credentials(self) -> grpc.ServerCredentials:
        import grpc  # noqa: PLC0415 as above

        config = self._config
        key, cert, ca = (
            path.read_bytes() if path else b"" for path in (config.key_file, config.cert_file, config.trusted_ca_file)
        )
        return grpc.ssl_server_credentials([(key, cert)], ca or None, bool(ca))
