"""`kubectl --as`: what a client asks for with `Impersonate-*`, and who decides whether it may.

The headers are parsed here and never passed on as they came. Who decides depends on how the upstream is told who asks:

- Front-proxy headers: the upstream learns the real user from `X-Remote-*` and what it wants to be from `Impersonate-*`
  written anew; it authorises natively, and its audit log has both names.
- A token passed through: the same, with the client's own token. The connection carries no identity of the gateway's, so
  nothing vouches but the token, and the upstream lets its owner impersonate whom it may.
- Impersonation mode: the gateway's own credential may impersonate everybody, so it must ask before it does: one
  SubjectAccessReview for each name, as kube-apiserver asks its authorizer (review.py); then the user is replaced.

Source: k8s.io/apiserver, pkg/endpoints/filters/impersonation. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_to_bytes

from wharf.gateway.identity import IdentityError, impersonation_headers
from wharf.gateway.user import ANONYMOUS_NAME, UNAUTHENTICATED, User, with_usual_group
from wharf.wire.web import Headers

PREFIX: Final = b"impersonate-"
_EXTRA: Final = b"impersonate-extra-"
_AUTHENTICATION_GROUP: Final = "authentication.k8s.io"
_HEX: Final = frozenset(b"0123456789abcdef")


class BadImpersonation(ValueError):
    """`Impersonate-*` headers that mean nothing, or not one thing."""


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that must be allowed, verb `impersonate`."""

    resource: str
    name: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""


def parse_impersonation(headers: Headers) -> User | None:
    """Whom a request wants to act as, exactly as written; None when it asks for nobody.

    BadImpersonation: unknown or misspelt `Impersonate-*` names, a second user or uid, groups or extras without a user,
    and names that cannot be passed on. Names in `headers` are in lower case.
    """
    asked = [(name, value) for name, value in headers if name.replace(b"_", b"-").startswith(PREFIX)]
    if not asked:
        return None
    users, uids, groups = [], [], []
    extra: dict[str, tuple[str, ...]] = {}
    for name, raw in asked:
        value = _text(raw)
        if name == b"impersonate-user":
            users.append(value)
        elif name == b"impersonate-group":
            groups.append(value)
        elif name == b"impersonate-uid":
            uids.append(value)
        elif name.startswith(_EXTRA):
            key = _key(name[len(_EXTRA) :])
            extra[key] = (*extra.get(key, ()), value)
        else:
            raise BadImpersonation("a header beginning with Impersonate- that has no meaning")
    if len(users) > 1 or len(uids) > 1:
        raise BadImpersonation("more than one user or uid to impersonate")
    if not any(users):
        if any(uids) or groups or extra:
            raise BadImpersonation("groups, a uid or extras to impersonate, but no user")
        return None
    if not all(groups):
        raise BadImpersonation("a group to impersonate without a name")
    wanted = User(users[0], tuple(groups), "".join(uids), extra)
    try:
        impersonation_headers(wanted)
    except IdentityError as error:
        raise BadImpersonation(f"a name to impersonate that cannot be passed on: {error}") from error
    return wanted


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadImpersonation("a name to impersonate that is no UTF-8") from None


def _key(escaped: bytes) -> str:
    """An extra key, unescaped; one with a broken escape is taken as it is, as kube-apiserver does."""
    parts = escaped.split(b"%")[1:]
    if all(len(part) >= 2 and part[0] in _HEX and part[1] in _HEX for part in parts):
        escaped = unquote_to_bytes(escaped)
    return _text(escaped)


def accesses(wanted: User) -> Iterator[Access]:
    """What the real user must be allowed, in kube-apiserver's order."""
    account = wanted.service_account
    if account is not None:
        yield Access("serviceaccounts", account[1], namespace=account[0])
    else:
        yield Access("users", wanted.name)
    if wanted.uid:
        yield Access("uids", wanted.uid, _AUTHENTICATION_GROUP)
    for group in wanted.groups:
        yield Access("groups", group)
    for key, values in wanted.extra.items():
        for value in values:
            yield Access("userextras", value, _AUTHENTICATION_GROUP, subresource=key)


def effective_user(wanted: User) -> User:
    """Whom the upstream would make of a wish that is allowed: with the groups that everybody of its kind has."""
    account = wanted.service_account
    if account is not None and not wanted.groups:
        wanted = replace(wanted, groups=("system:serviceaccounts", f"system:serviceaccounts:{account[0]}"))
    if wanted.name == ANONYMOUS_NAME and UNAUTHENTICATED not in wanted.groups:
        return replace(wanted, groups=(*wanted.groups, UNAUTHENTICATED))
    return with_usual_group(wanted)
