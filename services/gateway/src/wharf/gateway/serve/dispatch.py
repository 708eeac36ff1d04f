"""From an admitted request to an answer: a server, a connection, a relay, and another try where that is safe.

Invariant: for every `members.started` here there is one `members.finished`, whatever becomes of the attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from wharf.gateway import answers
from wharf.gateway.answers import Reason
from wharf.gateway.api.shapes import Key
from wharf.gateway.authn import Lane
from wharf.gateway.cluster.pools import Pools, Traffic
from wharf.gateway.limits.lists import is_unpaged, is_whole, page_max
from wharf.gateway.limits.outcome import Who
from wharf.gateway.serve.flight import Flight
from wharf.gateway.serve.headers import RESPONSE_FILTER, response_headers
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.evidence import FAILURES, Evidence, outcome_of, outcome_of_success
from wharf.gateway.upstreams.members import Unavailable
from wharf.gateway.upstreams.retry import may_retry
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import RequestFailed
from wharf.wire.coupled import Coupled
from wharf.wire.pool import HTTP2
from wharf.wire.relay import Relay
from wharf.wire.web import Failure, Fault, Link

_OK = 200
if TYPE_CHECKING:
    from wharf.wire._http import HttpClientSession, HttpServerStream


def dispatch(flight: Flight) -> None:
    """Send it to a server, or answer why not."""
    endpoint = take_server(flight)
    if endpoint is None:
        return
    pool = pool_for(flight, endpoint)
    link = pool.ready()
    if link is not None:
        _send(flight, endpoint, link)
    else:
        flight.task = flight.host.spawn(flight, _connect(flight, endpoint, pool))


def take_server(flight: Flight) -> Endpoint | None:
    """A place at a server, held in `flight.place`; None when the request is answered already."""
    cluster, policy, info = flight.cluster, flight.policy, flight.info
    host = flight.host
    now = host.now()
    if flight.told is not cluster.identity:
        # It waited while the way changed in which servers are told who asks. Its headers would meet a credential that
        # does not vouch for them: the server would take the client for the gateway.
        flight.refuse(answers.outdated(cluster.name))
        return None
    found = cluster.members.pick(
        policy.name, balance_key(flight), now, long_running=info.long_running, avoid=flight.avoid
    )
    if isinstance(found, Unavailable):
        flight.refuse(answers.no_server(cluster.name, found.text if flight.knows_servers else "", found.retry_after))
        return None
    cluster.members.started(found, info.long_running)
    flight.endpoint = flight.place = found
    flight.attempts += 1
    if flight.attempts > 1 or flight.delayed:
        flight.sent_at = host.clock()
    if not info.long_running:
        flight.deadline = now + cluster.spec.timeouts.head
    elif info.verb == "watch" and not (cluster.logs_some and cluster.logs(policy)):
        flight.deadline = now  # `expire` looks at it
    return found


def balance_key(flight: Flight) -> str:
    """The key that the policy's strategy gets; "" when the request has none of this kind."""
    kind = flight.policy.balance.hash_key
    if kind is Key.USER:
        return flight.user_key
    if kind is Key.NAMESPACE:
        return flight.info.namespace
    return Who(flight.user_key).service_account if kind is Key.SERVICE_ACCOUNT else ""


def pool_for(flight: Flight, endpoint: Endpoint) -> HttpPool:
    """Connections that carry only requests as trustworthy as this one, and as long."""
    pools: Pools = endpoint.pools
    if flight.lane is Lane.VOUCHED:
        traffic = Traffic.VOUCHED
    elif flight.lane is Lane.ANONYMOUS:
        traffic = Traffic.ANONYMOUS
    else:
        traffic = Traffic.TOKENS if flight.cluster.tokens.accepted(flight.token) else Traffic.NEW_TOKENS
    return pools.pool(traffic, long_running=flight.info.long_running)


async def _connect(flight: Flight, endpoint: Endpoint, pool: HttpPool) -> None:
    """Wait for a connection, then send. The client may go meanwhile: then this is cancelled."""
    cluster = flight.cluster
    deadline = flight.host.now() + cluster.spec.timeouts.connect
    try:
        link = await _connection(flight, endpoint, pool, deadline)
    except RequestFailed as failed:
        flight.task = None
        _failed(flight, endpoint, failed.failure, 0)
        return
    except BaseException:
        give_back(flight, endpoint, 0, None)
        raise
    flight.task = None
    _send(flight, endpoint, link)


async def _connection(flight: Flight, endpoint: Endpoint, pool: HttpPool, deadline: float) -> Link:
    """A connection of `pool`, or of those that replace it while the request waits: their credentials are newer."""
    while True:
        pools = endpoint.pools
        try:
            return await pool.connect(deadline)
        except RequestFailed:
            if endpoint.pools is pools or flight.told is not flight.cluster.identity:
                raise
            pool = pool_for(flight, endpoint)


def _send(flight: Flight, endpoint: Endpoint, link: Link) -> None:
    cluster, exchange = flight.cluster, flight.exchange
    if exchange.done:
        give_back(flight, endpoint, 0, None)
        flight.cancelled()
        return
    pools: Pools = endpoint.pools
    flight.shares_connection = link.version == HTTP2
    if not exchange.body_expected and link.version == HTTP2 == exchange.connection.version and flight.target is None:
        coupled = flight.relay = Coupled(cast("HttpServerStream", exchange), _done, flight)
        coupled.start(
            cast("HttpClientSession", link),
            pools.authority,
            flight.request_filter,
            flight.extra,
            RESPONSE_FILTER,
            response_headers(cluster, endpoint),
            flight.info.verb == "watch",
        )
    else:
        _relay(flight, endpoint).start(link, pools.authority, flight.extra, scheme=pools.scheme, target=flight.target)


def _relay(flight: Flight, endpoint: Endpoint) -> Relay:
    """The one relay of a request, whatever it carries: it keeps the body for another attempt."""
    relay = flight.relay
    if isinstance(relay, Relay):
        relay.response_headers = response_headers(flight.cluster, endpoint)
        return relay
    flight.relay = relay = Relay(
        flight.exchange,
        request_filter=flight.request_filter,
        response_filter=RESPONSE_FILTER,
        on_done=_done,
        clean_end=flight.info.verb == "watch",
        replay_max=flight.cluster.spec.retry.body_max,
        response_headers=response_headers(flight.cluster, endpoint),
    )
    relay.owner = flight
    return relay


def _done(relay: Relay | Coupled, failure: Failure | None) -> None:
    """An attempt is over."""
    flight: Flight = relay.owner
    endpoint = flight.endpoint
    if endpoint is None or flight.ended:
        return
    flight.deadline = 0.0
    if flight.policy.lists is not None:
        _note_cost(flight, relay, failure)
    if relay.cancelled:
        give_back(flight, endpoint, relay.status, None)
        flight.cancelled()
    elif failure is not None and not relay.head_sent:
        _failed(flight, endpoint, failure, relay.status)
    else:
        _answered(flight, endpoint, relay, failure)


def _answered(flight: Flight, endpoint: Endpoint, relay: Relay | Coupled, failure: Failure | None) -> None:
    """The client has an answer, whole unless there is a failure."""
    cluster = flight.cluster
    status, received = relay.status, relay.bytes_in
    if failure is None:
        give_back(flight, endpoint, status, None)
    else:
        flight.reason = failure.fault.value
        finish_attempt(flight, endpoint, failure, status)
    cluster.bytes_in += flight.exchange.bytes_in
    cluster.bytes_out += received
    flight.end(status)


def _note_cost(flight: Flight, relay: Relay | Coupled, failure: Failure | None) -> None:
    """What this list weighed is what the next one like it costs; of one that was cut, as far as it came."""
    lists, target = flight.policy.lists, flight.target or flight.exchange.target
    if lists is None or relay.status != _OK or not is_unpaged(flight.info, target, page_max(lists)):
        return
    whole = failure is None and not relay.cancelled and is_whole(target)
    flight.cluster.costs.note(flight.info, relay.bytes_in, whole)


def _failed(flight: Flight, endpoint: Endpoint, failure: Failure, status: int) -> None:
    """No answer: try elsewhere, or say so."""
    cluster, info, relay = flight.cluster, flight.info, flight.relay
    host = flight.host
    finish_attempt(flight, endpoint, failure, status)
    if failure.fault is Fault.FULL:
        _note_full(flight, endpoint)
    if flight.exchange.done:
        flight.cancelled()
        return
    again = may_retry(
        failure.fault,
        info,
        head_sent=flight.exchange.responded,
        replayable=relay is None or relay.replayable,
        attempts_left=cluster.spec.retry.attempts + 1 - flight.attempts,
    )
    if again and cluster.budget.take(host.now()):
        host.metrics.retries.child(cluster.name, failure.fault.name.lower()).value += 1
        flight.avoid = (*flight.avoid, endpoint)
        flight.endpoint = None
        dispatch(flight)
    elif failure.fault is Fault.TIMEOUT:
        flight.refuse(answers.timed_out(cluster.name, flight.server_name(endpoint), cluster.spec.timeouts.head))
    else:
        flight.refuse(answers.upstream_failed(cluster.name, flight.server_name(endpoint), failure.fault))


def _note_full(flight: Flight, endpoint: Endpoint) -> None:
    """All connections for requests of this kind are taken, and no more may be opened."""
    upstream = flight.cluster.spec.upstream
    if flight.info.long_running:
        bound, limit = "upstream.watchConnectionsMax", upstream.watch_connections_max
    else:
        bound, limit = "upstream.connectionsMax", upstream.connections_max
    flight.cluster.bound_log.note(bound, flight.host.now(), limit=limit, server=endpoint.name)


def finish_attempt(flight: Flight, endpoint: Endpoint, failure: Failure | None, status: int) -> None:
    """An attempt has told what it could: count it and give its place back."""
    if failure is not None:
        fault = failure.fault.name.lower()
        flight.host.metrics.failures.child(flight.cluster.name, endpoint.name, fault).value += 1
    give_back(flight, endpoint, status, failure)


def give_back(flight: Flight, endpoint: Endpoint, status: int, failure: Failure | None) -> None:
    """The place at the server, with what the attempt said about it; once."""
    if flight.place is None:
        return
    flight.place = None
    cluster, info = flight.cluster, flight.info
    if flight.token:
        cluster.tokens.note(flight.token, flight.exchange.method, status)
    if failure is None and status and status not in FAILURES:  # nearly every answer: nothing more need be gathered
        outcome = outcome_of_success(info, flight.is_proven)
    else:
        outcome = outcome_of(_evidence(flight, status, failure))
    cluster.members.finished(endpoint, outcome, flight.host.now(), info.long_running)


def _evidence(flight: Flight, status: int, failure: Failure | None) -> Evidence:
    exchange = flight.exchange
    return Evidence(
        flight.info,
        exchange.target if flight.target is None else flight.target,
        status,
        failure.fault if failure is not None else None,
        authenticated=flight.is_proven,
        has_body=exchange.body_expected,
        shares_connection=flight.shares_connection,
    )


def expire(flight: Flight) -> None:
    """Its `deadline` has come: the answer's head is late, or after another while the answer. It is ended.

    A watch only lets go of its headers, once there can be no other attempt that would need them.
    """
    cluster, endpoint, relay = flight.cluster, flight.endpoint, flight.relay
    if flight.ended or endpoint is None or relay is None:
        return
    timeouts, begun = cluster.spec.timeouts, relay.head_sent
    if flight.info.long_running:
        if begun:
            flight.deadline = 0.0
            flight.exchange.drop_head()
        return
    if begun and not flight.late:
        flight.late = True
        flight.deadline += timeouts.total - timeouts.head
        return
    status, late = relay.status, Failure(Fault.TIMEOUT, "no answer in time")
    if flight.policy.lists is not None:
        _note_cost(flight, relay, late)
    flight.deadline = 0.0
    flight.endpoint = None  # the relay's end says nothing new
    relay.cancel()
    give_back(flight, endpoint, status, None if begun else late)
    flight.endpoint = endpoint
    if begun:
        flight.reason = Reason.TIMEOUT.value
        flight.exchange.abort()
        flight.end(status)
    else:
        flight.refuse(answers.timed_out(cluster.name, flight.server_name(endpoint), timeouts.head))


def end_stream(flight: Flight) -> None:
    """End a watch from here: the client sees a whole answer, the server that nobody listens any more."""
    relay, endpoint = flight.relay, flight.endpoint
    if flight.ended:
        return
    if relay is None or endpoint is None or not relay.active:  # no server has it yet, or not again
        if flight.task is not None:
            flight.task.cancel()
        flight.refuse(answers.stopping())
        return
    status = relay.status
    flight.endpoint = None  # the relay's end says nothing new
    relay.cancel()
    if flight.exchange.responded:
        if not flight.exchange.done:
            flight.exchange.finish()
        status = status or relay.status
    give_back(flight, endpoint, status, None)
    flight.endpoint = endpoint
    if flight.exchange.responded:
        flight.end(status)
    else:
        flight.refuse(answers.stopping())
