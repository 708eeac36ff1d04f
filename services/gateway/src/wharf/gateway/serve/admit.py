"""From a request to its place among those that are served: which cluster, what, who, which policy, may it now.

Each step either answers or hands on to the next; those that only somebody else can decide (a review, a turn in a queue)
go on in a task that ends with the client.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from wharf.common.kube import status as kube
from wharf.common.kube.request_info import BadTarget, parse_request_info
from wharf.gateway.authn import Authenticated, Lane, Pending
from wharf.gateway.cluster.names import parse_authority
from wharf.gateway.cluster.tokens import hash_token
from wharf.gateway.limits.lists import inject_limit, is_unpaged
from wharf.gateway.limits.outcome import FREE, Refused, Ticket, who_asks
from wharf.gateway.serve import answers
from wharf.gateway.serve.answers import Answer, Reason
from wharf.gateway.serve.dispatch import dispatch
from wharf.gateway.serve.flight import Flight
from wharf.gateway.serve.headers import REQUEST_FILTERS, TRACEPARENT, WEBSOCKET_PROTOCOL, ClientAddress
from wharf.gateway.serve.host import Host
from wharf.gateway.serve.upgrade import upgrade
from wharf.wire.web import Exchange


def begin(host: Host, exchange: Exchange) -> None:
    """A request came."""
    started_at = host.clock()
    cluster = host.find(exchange)
    if cluster is None:
        named = parse_authority(exchange.authority) or ""
        refuse_early(host, exchange, "", answers.starting() if host.starting else answers.unknown_host(named))
        return
    connection = exchange.connection
    if connection.peer.certificate is not None and not cluster.verified(connection):
        refuse_early(host, exchange, cluster.name, answers.misdirected(cluster.name))
        return
    try:
        info = parse_request_info(exchange.method, exchange.target)
    except BadTarget as wrong:
        refuse_early(host, exchange, cluster.name, Answer(Reason.BAD_REQUEST, kube.bad_request(str(wrong))))
        return
    flight = Flight(host, exchange, cluster, info, started_at)
    exchange.context = flight
    exchange.on_cancel = flight.client_gone
    host.active.add(flight)
    flight.span = host.begin_span(exchange, cluster, info.verb)
    if cluster.spec.features.deny_all:
        flight.refuse(answers.deny_all(cluster.name))
        return
    _authenticate(flight)


def refuse_early(host: Host, exchange: Exchange, cluster: str, answer: Answer) -> None:
    """Before anything is known that a flight is made of."""
    host.metrics.refused.child(cluster, answer.reason.value).value += 1
    host.metrics.answered(cluster, "", None, answer.status.code)
    answers.send(exchange, answer)


def _authenticate(flight: Flight) -> None:
    outcome = flight.cluster.authenticator.authenticate(flight.exchange)
    if isinstance(outcome, Pending):
        resolve = outcome.resolve
        _later(flight, lambda: _resolve(flight, resolve()))
    else:
        _authenticated(flight, outcome)


async def _resolve(flight: Flight, asked: Coroutine[Any, Any, Authenticated | Answer]) -> None:
    outcome = await asked
    flight.task = None
    _authenticated(flight, outcome)


def _later(flight: Flight, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    flight.task = flight.host.spawn(work())


def _authenticated(flight: Flight, outcome: Authenticated | Answer) -> None:
    if isinstance(outcome, Answer):
        flight.refuse(outcome)
        return
    exchange, cluster = flight.exchange, flight.cluster
    flight.user, flight.lane = outcome.user, outcome.lane
    if outcome.acting is not outcome.real:
        flight.impersonated = outcome.acting.name
    if outcome.lane is Lane.TOKEN:
        flight.token = hash_token(exchange.header(b"authorization") or exchange.header(WEBSOCKET_PROTOCOL) or b"")
    span = flight.span
    flight.request_filter = REQUEST_FILTERS[outcome.forward_authorization, span is None, outcome.subprotocols is None]
    extra = (*_address(flight).headers(exchange), *outcome.headers)
    if outcome.lane is not Lane.TOKEN:
        extra += cluster.own_headers
    if span is not None:
        extra += ((TRACEPARENT, span.traceparent()),)
    if outcome.subprotocols:
        extra += ((WEBSOCKET_PROTOCOL, outcome.subprotocols),)
    flight.extra = extra
    _route(flight)


def _address(flight: Flight) -> ClientAddress:
    connection = flight.exchange.connection
    found = connection.context
    if found is None:
        found = connection.context = ClientAddress(connection.peer.address, flight.host.proxies)
    address: ClientAddress = found
    return address


def _route(flight: Flight) -> None:
    cluster, info = flight.cluster, flight.info
    index = cluster.router.match(info, flight.user)
    if index < 0:
        flight.refuse(answers.no_policy(info))
        return
    policy = flight.policy = cluster.policies[index]
    deny = policy.deny
    if deny is not None:
        seconds = 0 if answers.is_event(info) else deny.retry_after_seconds
        flight.refuse(answers.denied(deny.status, deny.message, seconds))
        return
    cost = 1.0
    if policy.lists is not None and info.verb == "list":
        flight.target = inject_limit(info, flight.exchange.target, policy.lists.inject_limit)
        if flight.target is None and is_unpaged(info, flight.exchange.target):
            cost = cluster.costs.cost(policy.lists, info)
    if policy.flow_control:
        _limit(flight, cost)
    else:
        _admitted(flight, FREE)


def _limit(flight: Flight, cost: float) -> None:
    cluster, info = flight.cluster, flight.info
    who = who_asks(flight.user, info.namespace, str(flight.token) if flight.token else "")
    found = cluster.limiter.admit(flight.policy.flow_control, who, info.long_running, cost, flight.host.now())
    if isinstance(found, Ticket | Refused):
        _admitted(flight, found)
    else:
        waiting = found

        async def wait() -> None:
            outcome = await cluster.pacer.wait(waiting)
            flight.task = None
            _admitted(flight, outcome)

        _later(flight, wait)


def _admitted(flight: Flight, outcome: Ticket | Refused) -> None:
    cluster = flight.cluster
    if isinstance(outcome, Refused):
        flight.refuse(answers.limited(cluster.name, outcome.schema, outcome.retry_after, flight.info))
        return
    flight.ticket = outcome
    if flight.ended:
        outcome.release(flight.host.now())
        return
    cluster.budget.request()
    if flight.exchange.wants_upgrade:
        upgrade(flight)
    else:
        dispatch(flight)
