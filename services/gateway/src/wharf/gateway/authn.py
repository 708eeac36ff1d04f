"""Who sent a request, and what the upstream is told about it.

As in kube-apiserver the first proof that holds wins, certificates before tokens; one that was offered and does not hold
is never forgotten: without another it is 401, not anonymous. What is settled at once is answered at once; what only the
cluster knows is `Pending`.

How the upstream comes to believe it decides on which connections a request may travel (`Lane`), for a connection with
the gateway's own credential vouches for whatever it carries. A token that passes through has not been checked by anyone
yet, so it must not meet that credential: kube-apiserver would take a request without `X-Remote-User` for the gateway's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from wharf.common.clock import Clock
from wharf.common.kube import status as kube
from wharf.gateway.answers import Answer, Reason
from wharf.gateway.api.shapes import IdentityMode, TokenMode, UpstreamCluster
from wharf.gateway.bearer import BadToken, Subprotocols, bearer_token, split_subprotocols
from wharf.gateway.identity import IdentityError, identity_headers, impersonation_headers
from wharf.gateway.impersonation import Access, BadImpersonation, accesses, effective_user, parse_impersonation
from wharf.gateway.review import AccessReviewer, ReviewUnavailable, TokenReviewer
from wharf.gateway.user import ANONYMOUS, UNKNOWN, User
from wharf.gateway.x509 import BadClientCertificate, CertificateUser, certificate_user
from wharf.wire.rpc import PeerCertificate
from wharf.wire.web import Exchange, Header, Headers

CERTIFICATES_MAX: Final = 4096  # read ones kept
ACCESSES_MAX: Final = 100  # questions one request may cause


class Lane(Enum):
    """On which upstream connections a request may travel."""

    VOUCHED = "vouched"  # with the gateway's credential; identity headers say who asks
    ANONYMOUS = "anonymous"  # the same, apart: kube-apiserver closes connections that carry anonymous requests
    TOKEN = "token"  # noqa: S105 — without any credential of the gateway's; nothing but the client's token counts


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Somebody. `user` is who rules and limits go by; logs name `real` and `acting`, which differ by impersonation."""

    user: User
    real: User  # who proved to be
    acting: User  # whom the request runs as upstream, if the upstream allows it
    lane: Lane
    headers: tuple[Header, ...] = ()  # to be added upstream after all names of identity.py were stripped
    forward_authorization: bool = False  # else the client's Authorization header is stripped as well
    subprotocols: bytes | None = None  # what Sec-WebSocket-Protocol says upstream; None: what the client sent
    token: str = field(default="", repr=False)  # the bearer token that passes through, as the server parses it


@dataclass(frozen=True, slots=True)
class Pending:
    """Only the cluster can tell; `resolve` asks it. Call it once or not at all."""

    resolve: Callable[[], Coroutine[Any, Any, Authenticated | Answer]]


Outcome = Authenticated | Answer | Pending

_PASSED: Final = Authenticated(UNKNOWN, UNKNOWN, UNKNOWN, Lane.TOKEN, forward_authorization=True)
_PASSED_SUBPROTOCOL: Final = replace(_PASSED, forward_authorization=False)


@dataclass(frozen=True, slots=True)
class _Certificate:
    outcome: Authenticated | Answer | None  # None: it proves nothing
    not_after: float


class Authenticator:
    """Authentication for one cluster, as it is configured now."""

    def __init__(
        self,
        cluster: UpstreamCluster,
        clock: Clock,
        tokens: TokenReviewer | None = None,
        rights: AccessReviewer | None = None,
    ) -> None:
        """`tokens` is needed in Review mode, `rights` with impersonation as upstream identity."""
        self._settings = cluster.authentication
        self._mode = cluster.upstream.identity
        self._uid = cluster.upstream.uid_header
        self._clock = clock
        self._tokens = tokens if cluster.authentication.tokens is TokenMode.REVIEW else None
        self._rights = rights
        self._passes = cluster.authentication.tokens is TokenMode.PASS_THROUGH
        self._certificates: dict[bytes, _Certificate] = {}
        self._anonymous = replace(
            _vouched(ANONYMOUS, identity_headers(ANONYMOUS, self._mode, self._uid)), lane=Lane.ANONYMOUS
        )

    def authenticate(self, exchange: Exchange) -> Outcome:
        """Who sent this request. A certificate was verified for this very cluster, or it is 421 before this."""
        certificate = exchange.connection.peer.certificate
        known = None if certificate is None else self._certificate(certificate)
        outcome: Outcome
        if known is not None and known.outcome is not None:
            outcome = self._beside_certificate(exchange, known.outcome)
        else:
            outcome = self._by_token(exchange, refused=known is not None)
        return self._impersonated(outcome, exchange.headers) if exchange.has_prefix(b"impersonate") else outcome

    # --- certificates
    def _certificate(self, certificate: PeerCertificate) -> _Certificate:
        known = self._certificates.get(certificate.der)
        if known is None:
            known = self._read(certificate.der)
            if len(self._certificates) >= CERTIFICATES_MAX:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[certificate.der] = known
        if self._clock.wall_ns() > known.not_after * 1e9:  # connections outlive certificates
            return _Certificate(None, known.not_after)
        return known

    def _read(self, der: bytes) -> _Certificate:
        try:
            found: CertificateUser = certificate_user(der)
        except BadClientCertificate:
            return _Certificate(None, float("inf"))
        return _Certificate(self._vouch(found.user), found.not_after)

    def _beside_certificate(self, exchange: Exchange, outcome: Authenticated | Answer) -> Authenticated | Answer:
        """A token beside a certificate is not looked at, and goes nowhere."""
        if isinstance(outcome, Answer) or not _is_websocket(exchange):
            return outcome
        try:
            offered = _subprotocols(exchange)
        except BadToken as error:
            return Answer(Reason.BAD_REQUEST, kube.bad_request(str(error)))
        return outcome if offered.token is None else replace(outcome, subprotocols=offered.others)

    # --- tokens
    def _by_token(self, exchange: Exchange, refused: bool) -> Outcome:
        """`refused`: a certificate was offered that proves nothing."""
        token = bearer_token(exchange.header(b"authorization"))
        if _is_websocket(exchange):
            try:
                offered = _subprotocols(exchange)
            except BadToken:
                if token is None:
                    return _unauthorized()
            else:
                if offered.token is not None and token is not None:
                    return _two_tokens()
                if offered.token is not None:
                    passed = replace(_PASSED_SUBPROTOCOL, token=offered.token)
                    return passed if self._passes else self._review(offered.token, offered.others)
        if token is not None:
            return replace(_PASSED, token=token) if self._passes else self._review(token, None)
        return _unauthorized() if refused or not self._settings.anonymous else self._anonymous

    def _review(self, token: str, subprotocols: bytes | None) -> Outcome:
        tokens = self._tokens
        if tokens is None:
            return _unavailable("no way to review tokens")
        remembered = tokens.remembered(token)
        if remembered is not None:
            return self._reviewed(remembered[0], subprotocols)

        async def resolve() -> Authenticated | Answer:
            try:
                user = await tokens.review(token)
            except ReviewUnavailable as error:
                return _unavailable(f"the token could not be reviewed: {error}")
            return self._reviewed(user, subprotocols)

        return Pending(resolve)

    def _reviewed(self, user: User | None, subprotocols: bytes | None) -> Authenticated | Answer:
        if user is None:
            return _unauthorized()
        outcome = self._vouch(user)
        return outcome if isinstance(outcome, Answer) else replace(outcome, subprotocols=subprotocols)

    # --- impersonation
    def _impersonated(self, outcome: Outcome, headers: Headers) -> Outcome:
        if isinstance(outcome, Answer):
            return outcome
        if isinstance(outcome, Pending):
            ask = outcome.resolve
            asked = [header for header in headers if header[0].startswith(b"impersonate")]

            async def resolve() -> Authenticated | Answer:
                found = self._impersonated(await ask(), asked)
                return await found.resolve() if isinstance(found, Pending) else found

            return Pending(resolve)
        try:
            wanted = parse_impersonation(headers)
        except BadImpersonation as error:
            return Answer(Reason.IMPERSONATION, kube.bad_request(str(error)))
        if wanted is None:
            return outcome
        if not self._settings.impersonation:
            return Answer(Reason.IMPERSONATION, kube.forbidden("impersonation is switched off for this cluster"))
        if self._mode is IdentityMode.FRONT_PROXY or outcome.lane is Lane.TOKEN:
            return replace(outcome, acting=wanted, headers=outcome.headers + impersonation_headers(wanted))
        return self._authorise(outcome, wanted)

    def _authorise(self, outcome: Authenticated, wanted: User) -> Outcome:
        """The gateway's own credential may impersonate anybody: ask whether this user may, too."""
        rights = self._rights
        if rights is None:
            return _unavailable("no way to review rights")
        needed = list(accesses(wanted))
        if len(needed) > ACCESSES_MAX:
            text = f"more than {ACCESSES_MAX} names to impersonate"
            return Answer(Reason.IMPERSONATION, kube.bad_request(text))
        remembered = [rights.remembered(outcome.real, access) for access in needed]
        if False in remembered:
            return _denied(outcome.real, needed[remembered.index(False)])
        if None not in remembered:
            return self._become(outcome, wanted)

        async def resolve() -> Authenticated | Answer:
            try:
                for access in needed:
                    if not await rights.allows(outcome.real, access):
                        return _denied(outcome.real, access)
            except ReviewUnavailable as error:
                return _unavailable(f"the right to impersonate could not be reviewed: {error}")
            return self._become(outcome, wanted)

        return Pending(resolve)

    def _become(self, outcome: Authenticated, wanted: User) -> Authenticated | Answer:
        found = self._vouch(effective_user(wanted))
        if isinstance(found, Answer):
            return found
        return replace(found, real=outcome.real, subprotocols=outcome.subprotocols)

    def _vouch(self, user: User) -> Authenticated | Answer:
        """Fail closed: who cannot be named upstream does not get there."""
        try:
            return _vouched(user, identity_headers(user, self._mode, self._uid))
        except IdentityError as error:
            return Answer(Reason.INTERNAL, kube.internal(f"this user cannot be named to the upstream: {error}"))


def _vouched(user: User, headers: tuple[Header, ...]) -> Authenticated:
    return Authenticated(user, user, user, Lane.VOUCHED, headers)


def _is_websocket(exchange: Exchange) -> bool:
    return exchange.wants_upgrade and (exchange.header(b"upgrade") or b"").strip().lower() == b"websocket"


def _subprotocols(exchange: Exchange) -> Subprotocols:
    return split_subprotocols(value for name, value in exchange.headers if name == b"sec-websocket-protocol")


def _unauthorized() -> Answer:
    return Answer(Reason.UNAUTHENTICATED, kube.unauthorized())


def _two_tokens() -> Answer:
    """kube-apiserver tries both and takes the one that holds: which one would be unknown here."""
    text = "the request carries a bearer token in Authorization and one in Sec-WebSocket-Protocol: send one of them"
    return Answer(Reason.BAD_REQUEST, kube.bad_request(text))


def _unavailable(why: str) -> Answer:
    return Answer(Reason.AUTHENTICATION_UNAVAILABLE, kube.service_unavailable(why))


def _denied(user: User, access: Access) -> Answer:
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    where = f'in the namespace "{access.namespace}"' if access.namespace else "at the cluster scope"
    text = f'User "{user.name}" cannot impersonate resource "{resource}" in API group "{access.group}" {where}'
    return Answer(Reason.IMPERSONATION, kube.forbidden(text, access.resource, access.group, access.name))
