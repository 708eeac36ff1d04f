"""Bearer tokens in a request: the Authorization header, and the WebSocket subprotocol that browsers have instead.

Both are read as kube-apiserver reads them (k8s.io/apiserver, pkg/authentication/request/{bearertoken,websocket}), so
that the gateway and the upstream never differ about which token a request carries. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
_BASE64URL: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


# What Go's strings.TrimSpace and unicode.IsSpace take for white space.
_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_DROP_SPACE: Final = dict.fromkeys(map(ord, _SPACE))


class BadToken(ValueError):
    """A token that is offered in a way that cannot be read."""


def bearer_token(authorization: bytes | None) -> str | None:
    """The token of an Authorization header; None when it has none, another scheme included."""
    if not authorization:
        return None
    scheme, _, rest = _trim(authorization).partition(b" ")
    token = rest.partition(b" ")[0]
    if not token or scheme.lower() != b"bearer":
        return None
    return token.decode("utf-8", "surrogateescape")


def canonical_token(token: str) -> str:
    """One text for all spellings of a token that kube-apiserver accepts as the same, to count requests by.

    Its JWT parser (go-jose) drops white space inside of a token and unused bits at the end of a base64url part, and
    reads JWS JSON, which may hold any further fields: all tokens in JSON share one text. Other tokens are opaque and
    stand for themselves. The result is no credential: tokens that are not equal may share it.
    """
    bare = token.translate(_DROP_SPACE)
    if bare.startswith("{"):
        return "{"
    parts = bare.split(".")
    if len(parts) != 3:
        return token
    decoded = [_base64url(part.rstrip("=").encode("utf-8", "surrogateescape")) for part in parts]
    return token if None in decoded else ".".join(part.hex() for part in decoded if part is not None)


def hash_token(token: str) -> int:
    """Of a parsed bearer token; never 0. Python's hash of text is SipHash under a key of this process."""
    return hash(token) or 1


def token_digest(token: str, secret: bytes) -> str:
    """96 bits of a parsed token under a secret of up to 64 bytes: equal for all spellings, in every process."""
    text = canonical_token(token).encode("utf-8", "surrogateescape")
    return blake2b(text, key=secret, digest_size=12).hexdigest()


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
            protocol = _trim(word)
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
    decoded = _base64url(encoded)
    if decoded is None:
        raise BadToken("the bearer token among the subprotocols is not base64url")
    try:
        return decoded.decode()
    except ValueError:
        raise BadToken("the bearer token among the subprotocols is no text") from None


def _trim(value: bytes) -> bytes:
    """As strings.TrimSpace."""
    if value.isascii():
        return value.strip(b"\t\n\v\f\r ")
    return value.decode("utf-8", "surrogateescape").strip(_SPACE).encode("utf-8", "surrogateescape")


def _base64url(encoded: bytes) -> bytes | None:
    """Unpadded base64url, decoded; unused bits at the end may be set. None for anything else."""
    if not _BASE64URL.issuperset(encoded) or len(encoded) % 4 == 1:
        return None
    return base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
