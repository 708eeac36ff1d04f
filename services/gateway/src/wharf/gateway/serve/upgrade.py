"""Upgrades: exec, attach, port-forward and proxied WebSockets, as bytes over a connection of their own.

What a server answers instead of 101 goes back word for word: kubectl decides by it whether to try the other protocol.
Nothing is repeated: behind the same request somebody may already run a command.
"""

from __future__ import annotations

from typing import Final

from wharf.gateway import answers
from wharf.gateway.cluster.pools import Pools, pool_limits
from wharf.gateway.serve.dispatch import dispatch, finish_attempt, give_back, take_server
from wharf.gateway.serve.flight import Flight
from wharf.gateway.serve.headers import RESPONSE_FILTER, response_headers
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.wire.client_shell import RequestFailed
from wharf.wire.client_upgrade import UpgradeAsk, open_upgrade
from wharf.wire.relay import Relay
from wharf.wire.splice import Splice, join
from wharf.wire.web import Failure, Header, Request, Tunnel

_SWITCHING: Final = 101


def is_known(flight: Flight) -> bool:
    """Whether the upgrade is one that servers understand; others are ignored, as HTTP lets a server do."""
    wanted = (flight.exchange.header(b"upgrade") or b"").strip().lower()
    return wanted == b"websocket" or (wanted.startswith(b"spdy/") and b"," not in wanted)  # no second one behind it


def needs_permit(flight: Flight) -> bool:
    """Whether an upgrade is asked for by a client that no server has accepted, and waits for a permit."""
    return flight.exchange.wants_upgrade and flight.permit is None and not flight.is_proven and is_known(flight)


def upgrade(flight: Flight) -> None:
    """Ask a server for it, or answer why not."""
    if not is_known(flight):
        dispatch(flight)
        return
    endpoint = take_server(flight)
    if endpoint is not None:
        flight.task = flight.host.spawn(flight, _ask(flight, endpoint, endpoint.pools))


async def _ask(flight: Flight, endpoint: Endpoint, pools: Pools) -> None:
    exchange, cluster = flight.exchange, flight.cluster
    headers = [
        *flight.request_filter.apply(exchange.headers),
        *flight.extra,
        (b"connection", b"Upgrade"),
        (b"upgrade", exchange.header(b"upgrade") or b""),
    ]
    ask = UpgradeAsk(exchange.method, exchange.target, pools.authority, headers)
    try:
        await open_upgrade(
            pools.upgrade_target(flight.lane),
            ask,
            on_tunnel=lambda head, tunnel: _switch(flight, endpoint, head, tunnel),
            on_response=lambda status, head, request: _refused(flight, endpoint, status, head, request),
            limits=pool_limits(cluster.spec),
            timeout=cluster.spec.timeouts.connect + cluster.spec.timeouts.head,
        )
    except RequestFailed as failed:
        flight.task = None
        finish_attempt(flight, endpoint, failed.failure, 0)
        if not flight.ended:
            flight.refuse(answers.upstream_failed(cluster.name, flight.server_name(endpoint), failed.failure.fault))


def _switch(flight: Flight, endpoint: Endpoint, head: list[Header], upstream: Tunnel) -> None:
    """101: from now on only bytes."""
    exchange, cluster = flight.exchange, flight.cluster
    flight.task = None
    flight.release_permit()
    if exchange.done:
        upstream.abort()
        give_back(flight, endpoint, 0, None)
        flight.cancelled()
        return
    headers = [*RESPONSE_FILTER.apply(head), *response_headers(cluster, endpoint)]
    upgraded = next((value for name, value in head if name == b"upgrade"), exchange.header(b"upgrade") or b"")
    client = exchange.upgrade([*headers, (b"upgrade", upgraded)])

    def over(splice: Splice, error: Exception | None) -> None:
        flight.splice = splice
        give_back(flight, endpoint, _SWITCHING, None)
        cluster.count_bytes(splice.bytes_a, splice.bytes_b)
        flight.end(_SWITCHING)

    flight.splice = join(client, upstream, cluster.spec.timeouts.half_close, over)


def _refused(flight: Flight, endpoint: Endpoint, status: int, head: list[Header], request: Request) -> None:
    """Any other answer, relayed as it is."""
    flight.task = None
    flight.release_permit()
    if flight.exchange.done:
        request.reset()
        give_back(flight, endpoint, status, None)
        flight.cancelled()
        return

    def over(relay: Relay, failure: Failure | None) -> None:
        finish_attempt(flight, endpoint, failure, relay.status)
        if relay.cancelled:
            flight.cancelled()
        else:
            flight.end(relay.status)

    flight.relay = Relay(
        flight.exchange,
        request_filter=flight.request_filter,
        response_filter=RESPONSE_FILTER,
        on_done=over,
        response_headers=response_headers(flight.cluster, endpoint),
    )
    flight.relay.adopt(request, status, head)
