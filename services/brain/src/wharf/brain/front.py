"""What hosts the API: wharf's own server, or grpcio as the reference it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from wharf.brain.config import BrainConfig
from wharf.common.metrics import Family
from wharf.wire.http import HttpHandler
from wharf.wire.rpc import Method


class Front(Protocol):
    """A front end, made but not yet listening."""

    addresses: tuple[str, ...]  # "host:port" per client URL, once started
    probe_addresses: tuple[str, ...]  # the same per metrics URL

    async def start(self) -> None:
        """Listen; OSError or TlsError when that cannot be."""

    async def drain(self, grace: float) -> None:
        """Take no more calls and wait `grace` seconds for those under way; probes are answered on."""

    async def close(self) -> None:
        """End everything that is left."""

    def families(self) -> Iterable[Family]:
        """Metrics of calls and traffic."""


def front_for(config: BrainConfig, methods: Sequence[Method], pages: HttpHandler) -> Front:
    """The front end `config` asks for."""
    if config.front_end == "grpcio":
        from wharf.brain.front_grpcio import GrpcioFront  # noqa: PLC0415 grpcio is loaded only when asked for

        return GrpcioFront(config, methods, pages)
    from wharf.brain.front_wire import WireFront  # noqa: PLC0415 and the wire only then

    return WireFront(config, methods, pages)
