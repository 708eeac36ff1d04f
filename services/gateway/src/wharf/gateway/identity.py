"""Who asks, as headers: which of a client's are thrown away, and which the gateway sets instead.

The upstream believes these headers because the gateway's own connection vouches for them, so one rule holds without
exception: under an identity name nothing arrives that was not written here. Names are thrown away in every spelling
(case, `_` for `-`), repeated or named by `Connection`, before ours are added; what a client legitimately asks for with
`Impersonate-*` is parsed, checked and written anew. An identity that no header can carry unchanged is refused
(IdentityError): the request must not go on, least of all without it.

Sources: kube-apiserver's authenticating proxy and user impersonation (k8s.io/apiserver, pkg/authentication/request/
headerrequest, pkg/endpoints/filters/impersonation). Pure.
"""

from __future__ import annotations

from typing import Final

from wharf.gateway.api.shapes import IdentityMode
from wharf.gateway.user import User
from wharf.wire.web import Header

STRIPPED_NAMES: Final = (
    b"client-cert",  # RFC 9440
    b"client-cert-chain",
    b"ssl-client-cert",
    b"ssl-client-verify",
    b"x-client-cert",
    b"x-forwarded-client-cert",
    b"x-ssl-client-cert",
)
STRIPPED_PREFIXES: Final = (b"x-remote-", b"impersonate-")
AUTHORIZATION: Final = b"authorization"

_FRONT_PROXY: Final = b"x-remote-"
_IMPERSONATE: Final = b"impersonate-"
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
# Upper case is escaped as well: header names are folded on the way, and the upstream undoes escapes after that.
_PLAIN_KEY_BYTES: Final = frozenset(b"!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class IdentityError(ValueError):
    """An identity that headers cannot carry unchanged. The request must not be forwarded."""


def identity_headers(user: User, mode: IdentityMode, uid: bool = True) -> tuple[Header, ...]:
    """What tells the upstream who asks. `uid`: the upstream understands the header of the uid."""
    if mode is IdentityMode.FRONT_PROXY:
        return front_proxy_headers(user, uid)
    return impersonation_headers(user, uid)


def front_proxy_headers(user: User, uid: bool = True) -> tuple[Header, ...]:
    """`X-Remote-*`: every group in its order, every value of every extra key. IdentityError if it cannot be said."""
    return _headers(_FRONT_PROXY, user, uid)


def impersonation_headers(user: User, uid: bool = True) -> tuple[Header, ...]:
    """`Impersonate-*`, with the same content as `front_proxy_headers`."""
    return _headers(_IMPERSONATE, user, uid)


def _headers(prefix: bytes, user: User, uid: bool) -> tuple[Header, ...]:
    if not user.known or not user.name:
        raise IdentityError("there is no user to vouch for")
    headers = [(prefix + b"user", _value(user.name))]
    if uid and user.uid:
        headers.append((prefix + b"uid", _value(user.uid)))
    name = prefix + b"group"
    headers.extend((name, _value(group)) for group in user.groups if group)
    for key, values in user.extra.items():
        name = prefix + b"extra-" + escape_key(key)
        headers.extend((name, _value(value)) for value in values)
    return tuple(headers)


def _value(text: str) -> bytes:
    """The bytes of a header value; those that a parser would split at, fold or trim cannot be one."""
    raw = _encoded(text)
    if raw != raw.strip(b" ") or len(raw.translate(None, _CONTROLS)) != len(raw):
        raise IdentityError("a name with control characters, or with spaces at its ends")
    return raw


def escape_key(key: str) -> bytes:
    """An extra key as the end of a header name: "scopes.example.org/A" → b"scopes.example.org%2f%41"."""
    if not key:
        raise IdentityError("an extra key without a name")
    return b"".join(b"%c" % byte if byte in _PLAIN_KEY_BYTES else b"%%%02x" % byte for byte in _encoded(key))


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise IdentityError("a name that is no Unicode text") from None
