"""Who sent a request, and what the upstream is told about it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from cryptography.x509.oid import NameOID
from gateway.authn_kit import EPOCH_S, UID, Reviews, certificate, cluster, request, user_certificate
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.clock import FakeClock
from wharf.common.kube.client import Document, Unreachable
from wharf.gateway.answers import Answer, Reason
from wharf.gateway.api.shapes import IdentityMode, TokenMode
from wharf.gateway.authn import Authenticated, Authenticator, Lane, Pending
from wharf.gateway.identity import STRIPPED_NAMES, STRIPPED_PREFIXES, front_proxy_headers, impersonation_headers
from wharf.gateway.impersonation import Access
from wharf.gateway.review import AccessReviewer, TokenReviewer
from wharf.gateway.user import ANONYMOUS, UNKNOWN, User
from wharf.wire._http import HeaderFilter
from wharf.wire.rpc import PeerCertificate
from wharf.wire.web import Header

JANE = user_certificate("jane", "dev", "ops")
AUTHORIZATION = (b"authorization", b"Bearer secret")
AS_BOB = (b"impersonate-user", b"bob")
WEBSOCKET = (b"upgrade", b"websocket")
TOKEN_PROTOCOL = b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"secret").rstrip(b"=")


def settled(outcome: object) -> Authenticated:
    assert isinstance(outcome, Authenticated)
    return outcome


def refused(outcome: object, reason: Reason, code: int) -> Answer:
    assert isinstance(outcome, Answer)
    assert (outcome.reason, outcome.status.code) == (reason, code)
    return outcome


async def resolved(outcome: object) -> Authenticated | Answer:
    assert isinstance(outcome, Pending)
    return await outcome.resolve()


def passing(clock: FakeClock | None = None, **settings: Any) -> Authenticator:
    """Tokens pass through; front-proxy headers."""
    return Authenticator(cluster(**settings), clock or FakeClock())


# --- certificates


def test_edge_06_a_certificate_names_its_user_and_groups_in_order() -> None:
    found = settled(passing().authenticate(request(by=JANE)))
    assert (found.user.name, found.user.groups) == ("jane", ("dev", "ops", "system:authenticated"))
    assert found.user is found.real is found.acting
    assert (found.lane, found.forward_authorization) == (Lane.VOUCHED, False)
    assert found.headers == front_proxy_headers(found.user)


def test_edge_06_the_credential_is_named_as_kube_apiserver_names_it() -> None:
    found = settled(passing().authenticate(request(by=JANE)))
    (value,) = found.user.extra["authentication.kubernetes.io/credential-id"]
    assert value.startswith("X509SHA256=")
    assert len(value) == len("X509SHA256=") + 64


def test_edge_06_the_last_common_name_counts_and_a_uid_is_read() -> None:
    names = [(NameOID.COMMON_NAME, "first"), (NameOID.COMMON_NAME, "last")]
    found = settled(passing().authenticate(request(by=certificate([*names, (UID, "42")]))))
    assert (found.user.name, found.user.uid) == ("last", "42")


@pytest.mark.parametrize(
    "by",
    [
        user_certificate("jane", not_after=EPOCH_S - 1),
        certificate([(NameOID.ORGANIZATION_NAME, "system:masters")]),
    ],
    ids=["expired", "without a common name"],
)
def test_edge_06_a_certificate_that_proves_nothing_is_not_anonymous(by: PeerCertificate) -> None:
    refused(passing().authenticate(request(by=by)), Reason.UNAUTHENTICATED, 401)
    found = settled(passing().authenticate(request(AUTHORIZATION, by=by)))
    assert found.lane is Lane.TOKEN


def test_edge_06_expiry_counts_on_connections_that_live_on() -> None:
    clock = FakeClock()
    authenticator = passing(clock)
    short = user_certificate("jane", not_after=EPOCH_S + 60)
    assert isinstance(authenticator.authenticate(request(by=short)), Authenticated)
    clock.advance(61)
    refused(authenticator.authenticate(request(by=short)), Reason.UNAUTHENTICATED, 401)


def test_edge_03_a_name_that_headers_cannot_carry_goes_nowhere() -> None:
    by = user_certificate("jane ", "dev")
    refused(passing().authenticate(request(by=by)), Reason.INTERNAL, 500)
    refused(passing().authenticate(request(AUTHORIZATION, by=by)), Reason.INTERNAL, 500)


def test_a_certificate_goes_before_a_token_which_then_goes_nowhere() -> None:
    found = settled(passing().authenticate(request(AUTHORIZATION, by=JANE)))
    assert (found.user.name, found.forward_authorization) == ("jane", False)


def test_edge_11_a_token_subprotocol_beside_a_certificate_is_taken_out() -> None:
    protocols = (b"sec-websocket-protocol", b"v5.channel.k8s.io, " + TOKEN_PROTOCOL)
    found = settled(passing().authenticate(request(WEBSOCKET, protocols, by=JANE)))
    assert found.subprotocols == b"v5.channel.k8s.io"
    alone = (b"sec-websocket-protocol", TOKEN_PROTOCOL)
    refused(passing().authenticate(request(WEBSOCKET, alone, by=JANE)), Reason.BAD_REQUEST, 400)
    plain = (b"sec-websocket-protocol", b"v5.channel.k8s.io")
    assert settled(passing().authenticate(request(WEBSOCKET, plain, by=JANE))).subprotocols is None


# --- tokens that pass through


def test_edge_08_a_token_passes_through_and_nothing_vouches_for_it() -> None:
    found = settled(passing().authenticate(request(AUTHORIZATION)))
    assert (found.user, found.lane, found.headers, found.forward_authorization) == (UNKNOWN, Lane.TOKEN, (), True)


@pytest.mark.parametrize("value", [b"Basic eA==", b"Bearer", b"Bearer ", b"Bearer  x", b"", b"secret"])
def test_what_is_no_bearer_token_is_no_credential(value: bytes) -> None:
    found = settled(passing().authenticate(request((b"authorization", value))))
    assert (found.user, found.forward_authorization) == (ANONYMOUS, False)
    refused(passing(anonymous=False).authenticate(request((b"authorization", value))), Reason.UNAUTHENTICATED, 401)


@pytest.mark.parametrize("value", [b"bearer secret", b" BEARER secret ", b"Bearer secret and more"])
def test_bearer_tokens_are_told_as_kube_apiserver_tells_them(value: bytes) -> None:
    assert settled(passing().authenticate(request((b"authorization", value)))).lane is Lane.TOKEN


def test_edge_11_a_token_subprotocol_passes_through_as_it_is() -> None:
    protocols = (b"sec-websocket-protocol", b"v5.channel.k8s.io," + TOKEN_PROTOCOL)
    found = settled(passing().authenticate(request(WEBSOCKET, protocols)))
    assert (found.lane, found.subprotocols, found.forward_authorization) == (Lane.TOKEN, None, False)


@pytest.mark.parametrize(
    "protocols",
    [
        TOKEN_PROTOCOL,
        TOKEN_PROTOCOL + b",a," + TOKEN_PROTOCOL,
        b"a,base64url.bearer.authorization.k8s.io.!",
        b"a,base64url.bearer.authorization.k8s.io.A",
        b"a,base64url.bearer.authorization.k8s.io._w",
    ],
)
def test_edge_11_a_token_subprotocol_that_cannot_be_read_is_refused(protocols: bytes) -> None:
    asked = request(WEBSOCKET, (b"sec-websocket-protocol", protocols))
    refused(passing().authenticate(asked), Reason.UNAUTHENTICATED, 401)


def test_two_tokens_are_refused() -> None:
    """kube-apiserver takes whichever holds, so the first one might be anything."""
    protocols = (b"sec-websocket-protocol", b"a," + TOKEN_PROTOCOL)
    both = request(WEBSOCKET, AUTHORIZATION, protocols)
    refused(passing().authenticate(both), Reason.BAD_REQUEST, 400)
    reviewing = Authenticator(cluster(TokenMode.REVIEW), FakeClock())
    refused(reviewing.authenticate(both), Reason.BAD_REQUEST, 400)
    for one in (request(WEBSOCKET, AUTHORIZATION), request(WEBSOCKET, protocols)):
        assert settled(passing().authenticate(one)).lane is Lane.TOKEN


def test_the_token_that_passes_through_is_the_parsed_one() -> None:
    protocols = (b"sec-websocket-protocol", b"a," + TOKEN_PROTOCOL)
    by_protocol = settled(passing().authenticate(request(WEBSOCKET, protocols)))
    asked = request((b"authorization", b" bEARER " + by_protocol.token.encode() + b" text behind it"))
    by_header = settled(passing().authenticate(asked))
    assert by_header.token == by_protocol.token != ""
    assert by_header.token not in repr(by_header)


def test_a_token_subprotocol_counts_only_for_websockets() -> None:
    protocols = (b"sec-websocket-protocol", b"a," + TOKEN_PROTOCOL)
    assert settled(passing().authenticate(request((b"upgrade", b"SPDY/3.1"), protocols))).user is ANONYMOUS


# --- nobody


def test_edge_04_without_a_credential_it_is_anonymous_if_the_cluster_wants_it() -> None:
    found = settled(passing().authenticate(request()))
    assert (found.user, found.lane) == (ANONYMOUS, Lane.ANONYMOUS)
    assert found.headers == front_proxy_headers(ANONYMOUS)
    answer = refused(passing(anonymous=False).authenticate(request()), Reason.UNAUTHENTICATED, 401)
    assert answer.status.reason == "Unauthorized"


# --- impersonation


def test_edge_10_behind_front_proxy_headers_the_upstream_decides_and_sees_both() -> None:
    found = settled(passing().authenticate(request(AS_BOB, (b"impersonate-group", b"x"), by=JANE)))
    assert (found.user.name, found.real.name, found.acting) == ("jane", "jane", User("bob", ("x",)))
    assert found.headers == front_proxy_headers(found.real) + impersonation_headers(User("bob", ("x",)))


def test_edge_10_with_a_token_the_upstream_decides() -> None:
    found = settled(passing().authenticate(request(AUTHORIZATION, AS_BOB)))
    assert (found.lane, found.user, found.acting) == (Lane.TOKEN, UNKNOWN, User("bob"))
    assert found.headers == impersonation_headers(User("bob"))


@pytest.mark.parametrize(
    "header", [(b"impersonate-foo", b"x"), (b"impersonate-group", b"x"), (b"impersonate_user", b"x")]
)
def test_edge_01_impersonation_that_means_nothing_is_refused(header: Header) -> None:
    refused(passing().authenticate(request(header, by=JANE)), Reason.IMPERSONATION, 400)
    refused(passing().authenticate(request(header, AUTHORIZATION)), Reason.IMPERSONATION, 400)


def test_impersonation_can_be_switched_off() -> None:
    authenticator = passing(impersonation=False)
    refused(authenticator.authenticate(request(AS_BOB, by=JANE)), Reason.IMPERSONATION, 403)
    refused(authenticator.authenticate(request(AS_BOB, AUTHORIZATION)), Reason.IMPERSONATION, 403)


def test_who_is_not_authenticated_does_not_impersonate() -> None:
    refused(passing(anonymous=False).authenticate(request(AS_BOB)), Reason.UNAUTHENTICATED, 401)


def impersonating(reviews: Reviews, clock: FakeClock | None = None) -> Authenticator:
    """The gateway's own credential impersonates."""
    clock = clock or FakeClock()
    upstream = cluster(identity=IdentityMode.IMPERSONATION)
    return Authenticator(upstream, clock, rights=AccessReviewer(reviews, clock))


def allow_all(_: Document) -> Document:
    return {"allowed": True}


def test_with_impersonation_upstream_users_are_impersonated() -> None:
    found = settled(impersonating(Reviews(allow_all)).authenticate(request(by=JANE)))
    assert found.headers == impersonation_headers(found.user)


async def as_bob(authenticator: Authenticator) -> Authenticated | Answer:
    outcome = authenticator.authenticate(request(AS_BOB, (b"impersonate-group", b"x"), by=JANE))
    return await outcome.resolve() if isinstance(outcome, Pending) else outcome


def test_edge_10_with_impersonation_upstream_each_name_is_reviewed_for_the_real_user() -> None:
    reviews = Reviews(allow_all)
    authenticator = impersonating(reviews)
    found = settled(asyncio.run(as_bob(authenticator)))
    assert found.acting == found.user == User("bob", ("x", "system:authenticated"))
    assert found.real.name == "jane"
    assert found.headers == impersonation_headers(found.acting)
    assert [spec["user"] for spec in reviews.asked] == ["jane", "jane"]
    assert [spec["resourceAttributes"]["resource"] for spec in reviews.asked] == ["users", "groups"]
    assert reviews.asked[0]["groups"] == ["dev", "ops", "system:authenticated"]
    again = authenticator.authenticate(request(AS_BOB, (b"impersonate-group", b"x"), by=JANE))
    assert settled(again) == found  # remembered


def test_edge_10_what_is_not_allowed_is_refused_with_kubernetes_words() -> None:
    reviews = Reviews(lambda spec: {"allowed": spec["resourceAttributes"]["resource"] == "users"})
    authenticator = impersonating(reviews)
    for _ in range(2):
        answer = refused(asyncio.run(as_bob(authenticator)), Reason.IMPERSONATION, 403)
        assert answer.status.message == (
            'groups "x" is forbidden: User "jane" cannot impersonate resource "groups" in API group ""'
            " at the cluster scope"
        )
    assert len(reviews.asked) == 2  # remembered


def test_edge_10_no_answer_about_a_right_is_503() -> None:
    reviews = Reviews(allow_all, failures=[Unreachable("gone"), Unreachable("gone")])
    answer = refused(asyncio.run(as_bob(impersonating(reviews))), Reason.AUTHENTICATION_UNAVAILABLE, 503)
    assert answer.status.retry_after_seconds == 1


def test_rights_are_asked_for_anew_after_a_while() -> None:
    clock = FakeClock()
    reviews = Reviews(allow_all)
    authenticator = impersonating(reviews, clock)
    asyncio.run(as_bob(authenticator))
    clock.advance(10)
    asyncio.run(as_bob(authenticator))
    assert len(reviews.asked) == 4


def test_a_request_cannot_cause_more_questions_than_it_may() -> None:
    groups = [(b"impersonate-group", b"g%d" % number) for number in range(100)]
    outcome = impersonating(Reviews(allow_all)).authenticate(request(AS_BOB, *groups, by=JANE))
    refused(outcome, Reason.IMPERSONATION, 400)


def test_a_user_may_ask_to_be_somebody_while_the_token_is_reviewed() -> None:
    async def main() -> None:
        clock = FakeClock()
        reviews = Reviews(
            lambda spec: {"authenticated": True, "user": {"username": "jane"}} if "token" in spec else {"allowed": True}
        )
        settings = cluster(TokenMode.REVIEW, IdentityMode.IMPERSONATION)
        authenticator = Authenticator(
            settings, clock, TokenReviewer(reviews, settings.authentication, clock), AccessReviewer(reviews, clock)
        )
        found = settled(await resolved(authenticator.authenticate(request(AUTHORIZATION, AS_BOB))))
        assert (found.real.name, found.acting.name) == ("jane", "bob")
        refused(
            await resolved(
                authenticator.authenticate(request((b"authorization", b"Bearer x"), (b"impersonate-x", b"")))
            ),
            Reason.IMPERSONATION,
            400,
        )

    asyncio.run(main())


def test_rights_cannot_be_confused() -> None:
    clock = FakeClock()
    reviews = Reviews(lambda spec: {"allowed": spec["user"] == "a"})

    async def main() -> None:
        rights = AccessReviewer(reviews, clock)
        assert await rights.allows(User("a"), Access("users", "b"))
        assert not await rights.allows(User("a,b"), Access("users", "b"))
        assert rights.remembered(User("a"), Access("users", "b")) is True
        assert rights.remembered(User("a", ("b",)), Access("users", "b")) is None
        assert rights.remembered(User("a"), Access("groups", "b")) is None
        rights.forget()
        assert rights.remembered(User("a"), Access("users", "b")) is None

    asyncio.run(main())


# --- whatever a client sends

NAMES = [
    b"x-remote-user",
    b"x-remote-group",
    b"x-remote-uid",
    b"x-remote-extra-scopes",
    b"x_remote_user",
    b"x-remote_group",
    b"x-forwarded-client-cert",
    b"impersonate-user",
    b"impersonate-group",
    b"impersonate-uid",
    b"impersonate-extra-a",
    b"impersonate_user",
    b"impersonate-other",
    b"connection",
    b"authorization",
    b"accept",
]
VALUES = [
    b"system:masters",
    b"",
    b"x-remote-user, x-remote-group",
    b" impersonate-user , Impersonate-Group,close",
    b"Bearer secret",
    b"a",
]
FILTER = HeaderFilter(STRIPPED_NAMES, STRIPPED_PREFIXES)


@pytest.mark.parametrize("mode", list(IdentityMode))
@given(
    headers=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=9))),
    by=st.sampled_from([None, JANE]),
)
def test_edge_01_to_05_identity_upstream_is_exactly_ours(
    mode: IdentityMode, headers: list[Header], by: PeerCertificate | None
) -> None:
    clock = FakeClock()
    authenticator = Authenticator(cluster(identity=mode), clock, rights=AccessReviewer(Reviews(allow_all), clock))
    outcome = authenticator.authenticate(request(*headers, by=by))
    if isinstance(outcome, Pending):
        outcome = asyncio.run(outcome.resolve())
    if isinstance(outcome, Answer):
        return
    arrives = [*FILTER.apply(headers), *outcome.headers]
    identity = [item for item in arrives if item[0].replace(b"_", b"-").startswith(STRIPPED_PREFIXES)]
    assert identity == list(outcome.headers)
    named = [value.decode() for name, value in identity if name in (b"x-remote-user", b"impersonate-user")]
    assert named == whom_upstream_is_told(outcome, mode)


def whom_upstream_is_told(found: Authenticated, mode: IdentityMode) -> list[str]:
    """The users in identity headers, in order."""
    if found.lane is Lane.TOKEN:
        return [found.acting.name] if found.acting.known else []
    if mode is IdentityMode.IMPERSONATION:
        return [found.acting.name]
    return [found.real.name] if found.acting is found.real else [found.real.name, found.acting.name]


def test_without_a_way_to_ask_the_cluster_nobody_gets_in() -> None:
    reviewing = Authenticator(cluster(TokenMode.REVIEW), FakeClock())
    refused(reviewing.authenticate(request(AUTHORIZATION)), Reason.AUTHENTICATION_UNAVAILABLE, 503)
    impersonator = Authenticator(cluster(identity=IdentityMode.IMPERSONATION), FakeClock())
    refused(impersonator.authenticate(request(AS_BOB, by=JANE)), Reason.AUTHENTICATION_UNAVAILABLE, 503)
