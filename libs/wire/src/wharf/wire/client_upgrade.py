"""Upgrades asked of an upstream: exec, attach, port-forward. Each has an HTTP/1.1 connection of its own.

What answers is told by callbacks at the moment it is known, so that not a byte and not an end can come in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from wharf.wire.client_shell import RequestFailed, Target, open_connection
from wharf.wire.pool import PoolLimits
from wharf.wire.web import Failure, Fault, Header, Headers, Request, Tunnel
from wharf.wire.web_h1_client import Http1ClientSession


@dataclass(frozen=True, slots=True)
class UpgradeAsk:
    """The request; its headers hold Connection and Upgrade."""

    method: bytes
    target: bytes
    authority: bytes
    headers: Headers


OnTunnel = Callable[[list[Header], Tunnel], None]
OnResponse = Callable[[int, list[Header], Request], None]


async def open_upgrade(
    target: Target,
    ask: UpgradeAsk,
    *,
    on_tunnel: OnTunnel,
    on_response: OnResponse,
    limits: PoolLimits | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 - its exception says what failed
) -> None:
    """Ask; returns when one of the callbacks was called. The connection then lives as long as what it was given.

    `target` is one of HTTP/1.1, and so is its TLS context: an upstream that is offered HTTP/2 takes it.
    `on_tunnel`: 101, with the response's headers. `on_response`: any other
    answer; the request's callbacks are to be set there. RequestFailed when there is no answer within `timeout` seconds.
    Cancelling before the answer cuts the connection.
    """
    if target.protocol != "http1":
        raise ValueError("only HTTP/1.1 has upgrades")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    connection = await open_connection(target, limits or PoolLimits())
    session = cast(Http1ClientSession, connection.link)
    answered: asyncio.Future[None] = loop.create_future()

    def tunnel_came(head: list[Header], tunnel: Tunnel) -> None:
        _settle(answered)
        connection.trust_reader()
        on_tunnel(head, tunnel)

    def head_came(status: int, head: list[Header]) -> None:
        _settle(answered)
        on_response(status, head, request)

    def failed(failure: Failure) -> None:
        if not answered.done():
            answered.set_exception(RequestFailed(failure))

    request = session.upgrade_request(ask.method, ask.target, ask.authority, ask.headers)
    session.announce_shutdown()  # whatever the answer is, there is no second request
    request.on_upgrade = tunnel_came
    request.on_head = head_came
    request.on_failure = failed
    try:
        async with asyncio.timeout_at(deadline):
            await answered
    except BaseException as error:
        if not (answered.done() and not answered.cancelled() and answered.exception() is None):
            connection.abort()
        if isinstance(error, TimeoutError):
            raise RequestFailed(Failure(Fault.TIMEOUT, f"no answer within {timeout:g} s")) from None
        raise


def _settle(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)
