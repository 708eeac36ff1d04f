"""Tokens: who has shown a password, and until when that counts. Pure; seconds are of the wall clock.

A token is its claims and a signature over them, so any node that knows the key can read it and none has to keep it.
The key is secret, changes whenever authentication is enabled, and is shown to nobody.

Invariant: `read` gives claims only for bytes that `issue` made with the same key, before they expire.
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 32
_HEAD: Final = struct.Struct(">Bqq")  # version, expiry in milliseconds, auth revision; the user's name follows
_VERSION: Final = 1
_MAC: Final = "sha256"
_MAC_BYTES: Final = 32
_LONGEST: Final = 64 * 1024  # bytes of a token worth looking at


@dataclass(frozen=True, slots=True)
class Claims:
    user: str
    revision: int  # auth revision of the node that issued the token
    expires: float  # seconds since the epoch


def issue(key: bytes, claims: Claims) -> str:
    """The token for `claims`, printable ASCII."""
    body = _HEAD.pack(_VERSION, round(claims.expires * 1000), claims.revision) + claims.user.encode()
    return urlsafe_b64encode(body + hmac.digest(key, body, _MAC)).decode()


def read(key: bytes, token: bytes, now: float) -> Claims | None:
    """The claims of a token that is ours and not over; None otherwise."""
    if not key or len(token) > _LONGEST:
        return None
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        return None
    body, signature = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(body) < _HEAD.size or not hmac.compare_digest(hmac.digest(key, body, _MAC), signature):
        return None
    version, expires, revision = _HEAD.unpack_from(body)
    if version != _VERSION or expires <= now * 1000:
        return None
    return Claims(body[_HEAD.size :].decode(), revision, expires / 1000)
