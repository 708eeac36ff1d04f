"""Tokens: the proof that a client has sent a user's password. Pure; seconds are of the wall clock.

A token is its claims and a signature over them, so any node that knows the key can read it. The key is secret, changes
whenever authentication is enabled, and is shown to nobody. How long a token counts depends on its use: see `token_use`.

Invariant: `read` gives claims only for bytes that `issue` made with the same key.
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 32
ID_BYTES: Final = 16
_HEAD: Final = struct.Struct(">Bqq")  # version, issued in milliseconds, auth revision; the user's name follows
_VERSION: Final = 2
_MAC: Final = "sha256"
_MAC_BYTES: Final = 32
_LONGEST: Final = 64 * 1024  # bytes of a token worth looking at


@dataclass(frozen=True, slots=True)
class Claims:
    user: str
    revision: int  # auth revision of the node that issued the token
    issued: float  # seconds since the epoch


def issue(key: bytes, claims: Claims) -> str:
    """The token for `claims`, printable ASCII."""
    body = _HEAD.pack(_VERSION, round(claims.issued * 1000), claims.revision) + claims.user.encode()
    return urlsafe_b64encode(body + hmac.digest(key, body, _MAC)).decode()


def read(key: bytes, token: bytes) -> tuple[Claims, bytes] | None:
    """The claims and the id of a token that was made with `key`; None otherwise. The id proves nothing."""
    if not key or len(token) > _LONGEST:
        return None
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        return None
    body, signature = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(body) < _HEAD.size or not hmac.compare_digest(hmac.digest(key, body, _MAC), signature):
        return None
    version, issued, revision = _HEAD.unpack_from(body)
    if version != _VERSION:
        return None
    # Of a hash of the signature: the records that carry ids are in snapshots, which must not hold parts of tokens.
    token_id = hmac.digest(key, signature, _MAC)[:ID_BYTES]
    return Claims(body[_HEAD.size :].decode(), revision, issued / 1000), token_id
