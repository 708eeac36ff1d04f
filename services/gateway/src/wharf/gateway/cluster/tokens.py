"""Which bearer tokens a cluster's servers have authenticated lately, by keyed hashes; the tokens are not kept.

A request with another token gets a connection apart, because a server that refuses it closes the connection, and its
client learns nothing about servers. What counts as evidence: kube-apiserver answers a request with a wrong token by
401, unless something before authentication answers first: OPTIONS (net/http's `OPTIONS *`, CORS), 400 for a wrong
`timeout`, 429 and 503 while it stops, 504. So a success of any other method is evidence and no other status is.

Limits and hash keys go by a digest of the token instead, which all workers of an instance must agree about.

Source: k8s.io/apiserver 1.36, pkg/server/config.go, DefaultBuildHandlerChain. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from wharf.gateway.api.shapes import UpstreamCluster

KEPT_MAX: Final = 65_536
_PERSON: Final = b"wharf tokens"
SECRET_BYTES: Final = 64  # what blake2b takes as a key
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))
_SWITCHING, _NOT_MODIFIED, _UNAUTHORIZED = 101, 304, 401


class TokenBook:
    """A bounded set; the oldest goes first."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def accepted(self, token: int) -> bool:
        return token in self._known

    def note(self, token: int, method: bytes, status: int) -> None:
        """A server answered a request that carried this token and nothing else that authenticates."""
        if status == _UNAUTHORIZED:
            self._known.pop(token, None)
        elif token not in self._known and is_evidence(method, status):
            if len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[token] = None

    def __len__(self) -> int:
        return len(self._known)


def token_secret(spec: UpstreamCluster, of_instance: bytes) -> bytes:
    """What digests of tokens are made with: the same in every replica whose object holds the same secret.

    What changes least comes first, because every digest changes with it: a certificate may be renewed without a new
    key, a bearer token may be replaced every hour. Without any of them it is `of_instance`, which all its workers have.
    """
    for material in (spec.serving.key, spec.upstream.key, spec.upstream.token):
        if material is not None and material.pem:
            return blake2b(material.pem, person=_PERSON).digest()
    return of_instance


def is_evidence(method: bytes, status: int) -> bool:
    """Whether kube-apiserver gives this answer only after it has authenticated the request."""
    return method in _METHODS and (200 <= status < 300 or status in (_SWITCHING, _NOT_MODIFIED))
