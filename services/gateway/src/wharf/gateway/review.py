"""What only the cluster can tell: whose a token is (TokenReview), who may impersonate whom (SubjectAccessReview).

Answers are kept for seconds, so that a revoked token or right is not honoured for long. Tokens are never kept: the
cache knows them by a keyed digest, with a key that lives as long as the process. No answer is not a no:
`ReviewUnavailable` becomes 503, and is never remembered.

Sources: k8s.io/api, authentication/v1 and authorization/v1; k8s.io/apiserver, plugin/pkg/authenticator/token/webhook.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from wharf.common.clock import Clock
from wharf.common.kube.client import Document, KubeError, StatusError, Unreachable
from wharf.gateway.api.shapes import Authentication
from wharf.gateway.impersonation import Access
from wharf.gateway.user import User, with_usual_group
from wharf.gateway.verdicts import Crowded, Flights, Verdicts

TOKENS_MAX: Final = 10_000  # remembered per cluster and process; as many bad ones, apart: they push out no good one
ACCESSES_MAX: Final = 10_000
ALLOWED_SECONDS: Final = 10.0
DENIED_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 5.0
_FORBIDDEN = 403
_WHY_MAX: Final = 200  # characters of what a server said; it goes into answers, logs and the status
_Known = Verdicts[bytes, tuple[User | None]]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 — a path
_SELF_REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class ReviewUnavailable(Exception):
    """The cluster could not be asked, or would not answer."""


class Creates(Protocol):
    """What of a KubeClient is used here."""

    async def create(self, path: str, document: Document, *, seconds: float = ...) -> Document: ...


class TokenReviewer:
    """Whose a bearer token is. None as an answer: nobody's."""

    def __init__(self, client: Creates, settings: Authentication, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._salt = "\0".join(settings.audiences).encode()
        self._known: _Known = Verdicts(TOKENS_MAX)
        self._bad: _Known = Verdicts(TOKENS_MAX)
        self._flights: Flights[bytes, User | None] = Flights()

    def remembered(self, token: str) -> tuple[User | None] | None:
        """The answer of a moment ago, wrapped; None when there is none."""
        digest, now = self._digest(token), self._clock.now()
        return self._known.get(digest, now) or self._bad.get(digest, now)

    async def review(self, token: str) -> User | None:
        """Ask the cluster, together with all who ask the same now. ReviewUnavailable when it gives no answer."""
        digest, known, bad = self._digest(token), self._known, self._bad
        return await _joined(self._flights, digest, lambda: self._ask(token, digest, known, bad))

    def forget(self) -> None:
        """The cluster has changed: nothing that was said before counts, nor what is being asked."""
        self._known, self._bad = Verdicts(TOKENS_MAX), Verdicts(TOKENS_MAX)
        self._flights.forget()

    async def close(self) -> None:
        """End what is being asked; who waits for it is cancelled."""
        await self._flights.close()

    def _digest(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode("utf-8", "surrogateescape") + b"\0" + self._salt, "sha256")

    async def _ask(self, token: str, digest: bytes, known: _Known, bad: _Known) -> User | None:
        """`known`, `bad`: of the cluster as it was when the question came up."""
        spec: dict[str, Any] = {"token": token}
        if self._settings.audiences:
            spec["audiences"] = list(self._settings.audiences)
        document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        answer = await _created(self._client, _TOKEN_REVIEWS, document)
        try:
            user = _reviewed(answer, self._settings.audiences)
        except (AttributeError, TypeError, ValueError) as error:
            raise ReviewUnavailable("a TokenReview of another shape") from error
        (bad if user is None else known).put(digest, (user,), self._clock.now(), self._seconds(token, user))
        return user

    def _seconds(self, token: str, user: User | None) -> float:
        """How long an answer is kept: never beyond the token's own end."""
        if user is None:
            return self._settings.review_failure_seconds
        left = token_end(token) - self._clock.wall_ns() / 1e9
        return min(self._settings.review_success_seconds, left)


class AccessReviewer:
    """Whether a user may do what impersonation needs."""

    def __init__(self, client: Creates, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: Verdicts[str, bool] = Verdicts(ACCESSES_MAX)
        self._flights: Flights[str, bool] = Flights()

    def remembered(self, user: User, access: Access) -> bool | None:
        """The answer of a moment ago."""
        return self._known.get(_question(user, access), self._clock.now())

    async def allows(self, user: User, access: Access) -> bool:
        """Ask the cluster. ReviewUnavailable when it gives no answer."""
        question, known = _question(user, access), self._known
        return await _joined(self._flights, question, lambda: self._ask(question, known))

    def forget(self) -> None:
        """The cluster has changed: nothing that was said before counts, nor what is being asked."""
        self._known = Verdicts(ACCESSES_MAX)
        self._flights.forget()

    async def close(self) -> None:
        """End what is being asked; who waits for it is cancelled."""
        await self._flights.close()

    async def _ask(self, question: str, known: Verdicts[str, bool]) -> bool:
        document = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": json.loads(question),
        }
        status = _mapping(await _created(self._client, _ACCESS_REVIEWS, document), "status")
        allowed = status.get("allowed") is True and status.get("denied") is not True
        known.put(question, allowed, self._clock.now(), ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        return allowed


async def _joined(flights: Flights[K, V], key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
    try:
        return await flights.join(key, ask)
    except Crowded as crowded:
        raise ReviewUnavailable(f"too many reviews at once: {crowded}") from None


async def taken_for(client: Creates) -> str:
    """The user name that the cluster takes this client's requests for. ReviewUnavailable when it does not say.

    A server that does not trust the gateway's certificate as a front proxy ignores the headers beside it, and takes
    every client for the gateway itself. So ask before anybody is vouched for: with `identity_headers` of a user among
    the client's headers, the answer must be that user. Any authenticated user may ask; servers before 1.28 cannot tell.
    """
    document = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await _created(client, _SELF_REVIEWS, document)
    return str(_mapping(_mapping(answer, "status"), "userInfo").get("username") or "")


def _question(user: User, access: Access) -> str:
    """The spec of a SubjectAccessReview, the same text for the same question."""
    wanted = {
        "verb": "impersonate",
        "group": access.group,
        "version": "v1",
        "resource": access.resource,
        "subresource": access.subresource,
        "name": access.name,
        "namespace": access.namespace,
    }
    spec = {
        "user": user.name,
        "groups": list(user.groups),
        "uid": user.uid,
        "extra": {key: list(values) for key, values in user.extra.items()},
        "resourceAttributes": {name: value for name, value in wanted.items() if value},
    }
    return json.dumps(spec, sort_keys=True)


async def _created(client: Creates, path: str, document: Document) -> Document:
    try:
        try:
            return await client.create(path, document, seconds=_ASK_SECONDS)
        except Unreachable:  # another server may answer
            return await client.create(path, document, seconds=_ASK_SECONDS)
    except KubeError as error:
        raise ReviewUnavailable(_why(error)[:_WHY_MAX]) from error


def _why(error: KubeError) -> str:
    if isinstance(error, StatusError) and error.status.code == _FORBIDDEN:
        return f"the gateway's own user lacks a right in this cluster: {error}"
    return str(error)


def _reviewed(answer: Document, audiences: Sequence[str]) -> User | None:
    """The user that a TokenReview tells; None when the token is nobody's, or not meant for us."""
    status = _mapping(answer, "status")
    if status.get("authenticated") is not True:
        return None
    if audiences and not set(audiences) & set(status.get("audiences") or ()):
        return None
    told = _mapping(status, "user")
    extra = {str(key): _words(values) for key, values in (told.get("extra") or {}).items()}
    name, uid = str(told.get("username") or ""), str(told.get("uid") or "")
    if not name:
        raise ReviewUnavailable("a TokenReview without a user name")
    return with_usual_group(User(name, _words(told.get("groups")), uid, extra))


def _words(told: object) -> tuple[str, ...]:
    if told is not None and not isinstance(told, list):
        raise TypeError
    return tuple(map(str, told or ()))


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not isinstance(found, Mapping):
        raise ReviewUnavailable(f"a review without {name}")
    return found


def token_end(token: str) -> float:
    """When a token ends by its own word, in seconds since the epoch; infinity when it says nothing that can be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return float("inf")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        end = json.loads(payload)["exp"]
        return float(end)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return float("inf")
