"""One request while the gateway has it: what is known of it so far, and its one end.

Invariant: whatever a flight holds (a place in a limit, a place at a server, a task) is given back exactly once, by
`end`, on whichever way it ends; after that it does nothing any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.answers import Answer, internal, send
from wharf.gateway.api.shapes import IdentityMode, Policy
from wharf.gateway.authn import Lane
from wharf.gateway.limits.outcome import FREE, Ticket
from wharf.gateway.limits.upgrade_permits import UpgradePermits
from wharf.gateway.limits.user_counts import OpenCount
from wharf.gateway.seen.access_log import Record
from wharf.gateway.serve.headers import REQUEST_FILTERS
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.outliers import Outcome
from wharf.gateway.user import UNKNOWN, User
from wharf.wire.web import Exchange, Header

if TYPE_CHECKING:
    from wharf.common.trace import Span
    from wharf.gateway.cluster.runtime import ClusterRuntime
    from wharf.gateway.serve.host import Host
    from wharf.wire._http import HeaderFilter
    from wharf.wire.coupled import Coupled
    from wharf.wire.relay import Relay
    from wharf.wire.splice import Splice

CLIENT_GONE: Final = 499  # as the code of a request whose client went away first
UNROUTED: Final = Policy("")
NOTHING_PRIVATE: Final = REQUEST_FILTERS[(False, True, False)]


class Flight:
    """Mutable, for the loop thread. Which fields are set tells how far it has come.

    Defaults are the class's own, so that what a request never comes to costs it nothing.
    """

    user: User = UNKNOWN
    impersonated: str | None = None  # whom the user asked to be
    lane: Lane = Lane.ANONYMOUS
    token: int = 0  # a keyed hash of the bearer token that passes through; 0: none does
    user_key: str = ""  # what limits per user and hash keys go by
    policy: Policy = UNROUTED
    ticket: Ticket = FREE
    counted: OpenCount | None = None  # its user's counter of long-running requests, which counts it
    counted_short: OpenCount | None = None  # the same of short requests
    permit: UpgradePermits | None = None  # where it has a permit from
    extra: tuple[Header, ...] = ()  # headers that go upstream beside the client's
    told: IdentityMode = IdentityMode.FRONT_PROXY  # how `extra` says who asks
    request_filter: HeaderFilter = NOTHING_PRIVATE  # which of the client's go
    target: bytes | None = None  # instead of the client's own
    endpoint: Endpoint | None = None  # that of the last attempt
    place: Endpoint | None = None  # where `members.started` waits for its `finished`
    avoid: tuple[Endpoint, ...] = ()  # failed it already
    attempts: int = 0
    shares_connection: bool = False  # the last attempt went out over HTTP/2
    sent_at: float = 0.0  # by the host's clock; 0: when it came, nothing held it up
    deadline: float = 0.0  # loop time at which the answer's head is late, or all of it; 0: never
    late: bool = False  # `deadline` is that of the whole answer
    relay: Relay | Coupled | None = None
    splice: Splice | None = None
    task: asyncio.Task[None] | None = None  # it waits for something
    span: Span | None = None
    reason: str = ""
    delayed: bool = False  # it had to wait for something
    ended: bool = False

    def __init__(
        self, host: Host, exchange: Exchange, cluster: ClusterRuntime, info: RequestInfo, started_at: float
    ) -> None:
        self.host, self.exchange, self.cluster, self.info = host, exchange, cluster, info
        self.started_at = started_at  # by the host's clock

    def refuse(self, answer: Answer) -> None:
        """The gateway's own answer ends it."""
        if self.ended:
            return
        self.reason = answer.reason.value
        self.host.metrics.refused.child(self.cluster.name, self.reason).value += 1
        if not self.exchange.done and not self.exchange.responded:
            send(self.exchange, answer)
        self.end(answer.status.code)

    def client_gone(self) -> None:
        """The client went away while the gateway had the request and no server had it."""
        if self.task is not None:
            self.task.cancel()
        self.cancelled()

    def cancelled(self) -> None:
        """It ends because nobody waits for the answer any more."""
        if not self.ended:
            self.host.metrics.cancelled.child(self.cluster.name).value += 1
            self.end(self.exchange_status() or CLIENT_GONE)

    @property
    def knows_servers(self) -> bool:
        """Whether its client may be told of servers by name, and how they are: it is somebody, nothing is hidden."""
        return self.is_proven and not self.cluster.spec.features.hide_server

    @property
    def is_proven(self) -> bool:
        """Whether its client is somebody: by a certificate or a review, or a server has accepted its token."""
        return self.lane is Lane.VOUCHED or (self.lane is Lane.TOKEN and self.cluster.tokens.accepted(self.token))

    def release_permit(self) -> None:
        """Return the permit for an upgrade, if it holds one."""
        permits, self.permit = self.permit, None
        if permits is not None:
            permits.give()

    def server_name(self, endpoint: Endpoint) -> str:
        """As its client may know it: empty, not at all."""
        return endpoint.name if self.knows_servers else ""

    def exchange_status(self) -> int:
        """Of the answer's head, if one went out."""
        return self.relay.status if self.relay is not None else 0

    def end(self, status: int) -> None:
        """Give everything back, count it, tell it. Idempotent."""
        if self.ended:
            return
        self.ended = True
        host = self.host
        host.active.discard(self)
        now = host.now()
        if self.ticket is not FREE:
            self.ticket.release(now)
        if self.counted is not None:
            counted, self.counted = self.counted, None
            self.cluster.long_running.give(counted, self.exchange.connection.context.long_running)
        if self.counted_short is not None:
            short, self.counted_short = self.counted_short, None
            self.cluster.short_requests.give(short)
        if self.permit is not None:
            self.release_permit()
        if self.place is not None:  # an attempt of which nothing can be told
            place, self.place = self.place, None
            self.cluster.members.finished(place, Outcome.NOTHING, now, self.info.long_running)
        ended_at = host.clock()
        seconds = ended_at - self.started_at
        cluster, info, metrics = self.cluster, self.info, host.metrics
        server = self.endpoint.server.name if self.endpoint is not None else ""
        slow = False
        if info.long_running:
            metrics.answered(cluster.name, server, info, status)
        else:
            served = ended_at - (self.sent_at or self.started_at) if server else 0.0
            metrics.lasted(cluster.name, server, info, status, seconds, served)
            slow = seconds > cluster.slow_from and cluster.is_slow(info, seconds)
        if slow:
            metrics.slow.child(cluster.name).value += 1
        if slow or (cluster.logs_some and cluster.logs(self.policy)):
            host.log_access(self._record(status, seconds, slow), cluster.log_fields)
        if self.span is not None:
            self._end_span(self.span, status)
        self.exchange.context = None
        self.relay = self.splice = self.task = None

    def fail_internally(self) -> None:
        """Something here is broken: whatever was done so far, this request is over."""
        relay, exchange = self.relay, self.exchange
        truncated = exchange.responded
        if not truncated:
            self.refuse(internal())
        if relay is not None and relay.active:
            relay.cancel()
        if truncated and not exchange.done:
            exchange.abort()
        self.end(500)

    def _end_span(self, span: Span, status: int) -> None:
        span.set("http.response.status_code", status)
        span.set("wharf.attempts", self.attempts)
        span.set("k8s.verb", self.info.verb)
        span.set("k8s.resource", self.info.resource)
        if self.endpoint is not None:
            span.set("server.address", self.endpoint.name)
        if self.reason:
            span.set("wharf.reason", self.reason)
        if status >= 500:
            span.fail(self.reason or str(status))
        span.end()

    def _record(self, status: int, seconds: float, slow: bool) -> Record:
        exchange, info, user = self.exchange, self.info, self.user
        return Record(
            cluster=self.cluster.name,
            server=self.endpoint.name if self.endpoint is not None else "",
            method=exchange.method.decode("latin-1"),
            target=exchange.target,
            verb=info.verb,
            group=info.group,
            resource=info.resource,
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
            user=user.name if user.known else None,
            groups=user.groups if user.known else None,
            impersonated=self.impersonated,
            client=exchange.connection.peer.address,
            forwarded_for=_text(exchange.header(b"x-forwarded-for")),
            user_agent=_text(exchange.header(b"user-agent")),
            status=status,
            reason=self.reason,
            policy=self.policy.name,
            attempts=self.attempts,
            seconds=seconds,
            bytes_in=self.splice.bytes_a if self.splice is not None else exchange.bytes_in,
            bytes_out=self.splice.bytes_b if self.splice is not None else exchange.bytes_out,
            protocol="HTTP/2" if exchange.connection.version == 2 else "HTTP/1.1",
            audit_id=_text(exchange.header(b"audit-id")),
            trace_id=self.span.context.trace_id.hex() if self.span is not None else None,
            slow=slow,
        )


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "backslashreplace") if value is not None else None
