"""From a request to its place among those that are served: which cluster, what, who, which policy, may it now.

Each step either answers or hands on to the next; those that only somebody else can decide (a review, a turn in a queue)
go on in a task that ends with the client.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from wharf.common.kube import status as kube
from wharf.common.kube.request_info import BadTarget, parse_request_info
from wharf.gateway import answers
from wharf.gateway.answers import Answer, Reason
from wharf.gateway.authn import Authenticated, Authenticator, Lane, Pending
from wharf.gateway.bearer import hash_token
from wharf.gateway.cluster.names import parse_authority
from wharf.gateway.limits.lists import inject_limit, is_unpaged, page_max
from wharf.gateway.limits.long_running import Bound
from wharf.gateway.limits.outcome import Refused, Ticket, Who, user_key
from wharf.gateway.limits.upgrade_permits import PERMITS
from wharf.gateway.limits.user_counts import counting_key
from wharf.gateway.serve.context import ClientContext, Prepared
from wharf.gateway.serve.dispatch import dispatch
from wharf.gateway.serve.flight import Flight
from wharf.gateway.serve.headers import (
    REQUEST_FILTERS,
    TRACEPARENT,
    WEBSOCKET_PROTOCOL,
    credential_named_by_connection,
)
from wharf.gateway.serve.host import Host
from wharf.gateway.serve.upgrade import is_known, needs_permit, upgrade
from wharf.wire.web import Exchange

if TYPE_CHECKING:
    from wharf.wire.web_shell import WebConnection


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
    exchange.reader_timeout = cluster.spec.timeouts.stall
    flight = Flight(host, exchange, cluster, info, started_at)
    exchange.context = flight
    host.active.add(flight)
    if host.traces or cluster.tracer is not None:
        flight.span = host.begin_span(exchange, cluster, info.verb)
    features = cluster.spec.features
    if features.close_idle:
        cast("WebConnection", connection).send_away()
    if features.deny_all:
        flight.refuse(answers.deny_all(cluster.name))
        return
    _authenticate(flight)


def refuse_early(host: Host, exchange: Exchange, cluster: str, answer: Answer) -> None:
    """Before anything is known that a flight is made of."""
    host.metrics.refused.child(cluster, answer.reason.value).value += 1
    host.metrics.answered(cluster, "", None, answer.status.code)
    answers.send(exchange, answer)


def _authenticate(flight: Flight) -> None:
    exchange, cluster = flight.exchange, flight.cluster
    dropped = credential_named_by_connection(exchange)
    if dropped is not None:
        flight.refuse(answers.credential_is_hop_by_hop(dropped))
        return
    context: ClientContext | None = exchange.connection.context
    prepared = context.recall(exchange, cluster, flight.host.now()) if context is not None else None
    if prepared is not None and flight.span is None:
        _known(flight, prepared)
        return
    outcome = cluster.authenticator.authenticate(exchange)
    if isinstance(outcome, Pending):
        pending, authenticator = outcome, cluster.authenticator
        _later(flight, lambda: _resolve(flight, pending, authenticator))
    else:
        _authenticated(flight, outcome)


def _context(flight: Flight) -> ClientContext:
    connection = flight.exchange.connection
    context = connection.context
    if context is None:
        context = connection.context = ClientContext(connection.peer.address, flight.host.proxies)
    found: ClientContext = context
    return found


async def _resolve(flight: Flight, pending: Pending, authenticator: Authenticator) -> None:
    outcome = await pending.resolve()
    flight.task = None
    if flight.cluster.authenticator is authenticator:
        _authenticated(flight, outcome)
    else:
        _authenticate(flight)  # the cluster has changed: what was found out is about another


def _later(flight: Flight, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    flight.task = flight.host.spawn(flight, work())


def _authenticated(flight: Flight, outcome: Authenticated | Answer) -> None:
    if isinstance(outcome, Answer):
        flight.refuse(outcome)
        return
    context = _context(flight)
    prepared = _prepare(flight, outcome, context)
    if flight.span is None:
        context.remember(flight.exchange, flight.cluster, prepared, flight.host.now())
    _known(flight, prepared)


def _prepare(flight: Flight, outcome: Authenticated, context: ClientContext) -> Prepared:
    """What goes upstream of the client's own headers, and what of ours."""
    exchange, cluster, span = flight.exchange, flight.cluster, flight.span
    token = 0
    extra = (*context.address.headers(exchange), *outcome.headers)
    if outcome.lane is Lane.TOKEN:
        token = hash_token(outcome.token)
    else:
        extra += cluster.own_headers
    if span is not None:
        extra += ((TRACEPARENT, span.traceparent()),)
    if outcome.subprotocols:
        extra += ((WEBSOCKET_PROTOCOL, outcome.subprotocols),)
    return Prepared(
        outcome.user,
        outcome.lane,
        REQUEST_FILTERS[outcome.forward_authorization, span is None, outcome.subprotocols is None],
        extra,
        token,
        user_key(outcome.user, outcome.token, cluster.token_secret),
        outcome.acting.name if outcome.acting is not outcome.real else None,
        cluster.spec.upstream.identity,
    )


def _known(flight: Flight, prepared: Prepared) -> None:
    """It is clear who asks."""
    flight.user, flight.lane, flight.token = prepared.user, prepared.lane, prepared.token
    flight.user_key = prepared.user_key
    flight.request_filter, flight.extra, flight.told = prepared.request_filter, prepared.extra, prepared.told
    if prepared.impersonated is not None:
        flight.impersonated = prepared.impersonated
    _route(flight)


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
    upgrades = flight.exchange.wants_upgrade and is_known(flight)
    if not (_count_long_running(flight) if info.long_running or upgrades else _count_short(flight)):
        return
    cost = 1.0
    if policy.lists is not None and info.verb == "list":
        flight.target = inject_limit(info, flight.exchange.target, policy.lists.inject_limit)
        if is_unpaged(info, flight.target or flight.exchange.target, page_max(policy.lists)):
            cost = cluster.costs.cost(policy.lists, info)
    if upgrades and needs_permit(flight):
        _later(flight, lambda: _wait_for_permit(flight, cost))
    else:
        _control_flow(flight, cost)


def _count_long_running(flight: Flight) -> bool:
    """Count a long-running request by its user and its connection; False when it is refused."""
    cluster, connection = flight.cluster, flight.exchange.connection
    limits = cluster.spec.long_running
    key = counting_key(flight.user, flight.user_key)
    found = cluster.long_running.take(key, _context(flight).long_running, limits)
    if not isinstance(found, Bound):
        flight.counted = found
        return True
    of_connection = found is Bound.CONNECTION
    limit = limits.per_connection_max if of_connection else limits.per_user_max
    cluster.bound_log.note(
        f"longRunning of a {found.value}",
        flight.host.now(),
        limit=limit,
        user=_user_name(flight),
        client=connection.peer.address,
    )
    if of_connection:
        cast("WebConnection", connection).send_away()
    flight.refuse(answers.too_many_long_running(cluster.name, limit, of_connection=of_connection))
    return False


def _count_short(flight: Flight) -> bool:
    """Count a short request by its user; False when it is refused."""
    cluster = flight.cluster
    limit = cluster.short_per_user
    flight.counted_short = cluster.short_requests.take(counting_key(flight.user, flight.user_key), limit)
    if flight.counted_short is not None:
        return True
    client = flight.exchange.connection.peer.address
    cluster.bound_log.note(
        "short requests of a user", flight.host.now(), limit=limit, user=_user_name(flight), client=client
    )
    flight.refuse(answers.too_many_short(cluster.name, limit, flight.info))
    return False


def _user_name(flight: Flight) -> str:
    return flight.user.name if flight.user.known else "(a token that passes through)"


async def _wait_for_permit(flight: Flight, cost: float) -> None:
    """The permit comes first: a request that waits for it holds neither a place of flow control nor one at a server."""
    permits = flight.cluster.upgrade_permits
    got = await permits.wait(flight.cluster.spec.timeouts.connect)
    flight.task = None
    if not got:
        _refuse_upgrade(flight)
        return
    flight.permit = permits
    if flight.ended:
        flight.release_permit()
        return
    _control_flow(flight, cost)


def _refuse_upgrade(flight: Flight) -> None:
    cluster = flight.cluster
    cluster.bound_log.note("upgrades", flight.host.now(), limit=PERMITS, client=flight.exchange.connection.peer.address)
    flight.refuse(answers.too_many_upgrades(cluster.name))


def _control_flow(flight: Flight, cost: float) -> None:
    if flight.policy.flow_control:
        _limit(flight, cost)
    else:
        _go_on(flight)


def _limit(flight: Flight, cost: float) -> None:
    cluster, info = flight.cluster, flight.info
    who = Who(flight.user_key, info.namespace)
    found = cluster.limiter.admit(flight.policy.flow_control, who, info.long_running, cost, flight.host.now())
    if isinstance(found, Ticket | Refused):
        _admitted(flight, found)
    else:
        waiting = found
        flight.release_permit()  # others may go on meanwhile

        async def wait() -> None:
            outcome = await cluster.pacer.wait(waiting)
            flight.task = None
            _admitted(flight, outcome)

        _later(flight, wait)
        if flight.task is not None:
            cluster.pacer.bind(waiting, flight.task)


def _admitted(flight: Flight, outcome: Ticket | Refused) -> None:
    cluster = flight.cluster
    if isinstance(outcome, Refused):
        flight.refuse(answers.limited(cluster.name, outcome.schema, outcome.retry_after, flight.info))
        return
    flight.ticket = outcome
    if flight.ended:
        outcome.release(flight.host.now())
        return
    if needs_permit(flight):  # it was returned while the request waited
        permits = cluster.upgrade_permits
        if not permits.take():
            _refuse_upgrade(flight)
            return
        flight.permit = permits
    _go_on(flight)


def _go_on(flight: Flight) -> None:
    flight.cluster.budget.request()
    if flight.exchange.wants_upgrade:
        upgrade(flight)
    else:
        dispatch(flight)
