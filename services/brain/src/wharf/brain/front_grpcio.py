"""The reference front end: the same methods under grpcio, for comparing the wire with.

It speaks no HTTP/1.1: health and metrics are on --listen-metrics-urls only, and addresses that share a port get one server each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wharf.brain.config import BrainConfig
from wharf.common.parsers import Url
from wharf.wire.rpc import Method, RpcLimits

if TYPE_CHECKING:
    import grpc
    import grpc.aio


class GrpcioFront:
    """grpc.aio servers for the client URLs."""

    def __init__(self, config: BrainConfig, methods: Sequence[Method]) -> None:
        self._config = config
        self._methods = {method.path: method for method in methods}
        self._servers: list[grpc.aio.Server] = []
        self.addresses: list[str] = []

    async def start(self) -> None:
        from wharf.wire.grpcio_front import serve_grpcio  # noqa: PLC0415 only this front end loads grpcio

        for url in self._config.listen_client_urls:
            credentials = self._credentials() if url.scheme == "https" else None
            server, ports = await serve_grpcio(
                self._methods,
                [_address(url)],
                credentials=credentials,
                limits=RpcLimits(receive_max=self._config.receive_max),
            )
            self._servers.append(server)
            self.addresses.extend(f"{url.scheme}://{url.host}:{port}" for port in ports)

    async def drain(self, grace: float) -> None:
        """Take no more calls and wait `grace` seconds for those under way."""
        for server in self._servers:
            await server.stop(grace)

    def _credentials(self) -> grpc.ServerCredentials:
        import grpc  # noqa: PLC0415 as above

        config = self._config
        key, cert, ca = (
            path.read_bytes() if path else b"" for path in (config.key_file, config.cert_file, config.trusted_ca_file)
        )
        return grpc.ssl_server_credentials([(key, cert)], ca or None, bool(ca))


def _address(url: Url) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port}"
