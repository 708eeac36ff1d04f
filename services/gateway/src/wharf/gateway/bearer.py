"""Bearer tokens in a request: the Authorization header, and the WebSocket subprotocol that browsers have instead.

Both are read as kube-apiserver reads them (k8s.io/apiserver, pkg/authentication/request/{bearertoken,websocket}), so
that the gateway and the upstream never differ about which token a request carries. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
_BASE64URL: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class BadToken(ValueError):
    """A token that is offered in a way that cannot be read."""


def bearer_token(authorization: bytes | None) -> str | None:
    """The token of an Authorization header; None when it has none, another scheme included."""
    if not authorization:
        return None
    scheme, _, rest = authorization.strip().partition(b" ")
    token = rest.partition(b" ")[0]
    if not token or scheme.lower() != b"bearer":
        return None
    return token.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Subprotocols:
    """The subprotocols of a WebSocket request, the one with the token apart."""

    token: str | None
    others: bytes  # joined, without the token's; what goes on when the token is not to


def split_subprotocols(values: Iterable[bytes]) -> Subprotocols:
    """Take the token out of the values of Sec-WebSocket-Protocol.

    BadToken: several tokens, one that cannot be decoded, or none beside it that the server could choose.
    """
    token: str | None = None
    others: list[bytes] = []
    for value in values:
        for word in value.split(b","):
            protocol = word.strip()
            if not protocol.startswith(_SUBPROTOCOL):
                others.append(protocol)
                continue
            if token is not None:
                raise BadToken("more than one bearer token among the subprotocols")
            token = _decoded(protocol[len(_SUBPROTOCOL) :])
    if token and not others:
        raise BadToken("no subprotocol beside the one with the bearer token")
    return Subprotocols(token or None, b",".join(others))


def _decoded(encoded: bytes) -> str:
    """Base64url without padding, of UTF-8."""
    if not _BASE64URL.issuperset(encoded) or len(encoded) % 4 == 1:
        raise BadToken("the bearer token among the subprotocols is not base64url")
    try:
        return base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)).decode()
    except ValueError:
        raise BadToken("the bearer token among the subprotocols is no text") from None
