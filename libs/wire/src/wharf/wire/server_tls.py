"""Certificates and client CAs of a listener that come and go while it serves, all from memory.

The name a client asks for (SNI) chooses the identity, then the local address it connected to, then the default. The
choice is made from the client's first message, so each identity also decides whether client certificates are asked for.
Sessions are not resumed: a resumed one would carry a client's identity past a changed CA.

Invariant: a handshake uses one identity whole; `replace` changes all identities or, with an error, none.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from wharf.wire.pem import load_authorities, load_pair
from wharf.wire.tls import ClientAuth, TlsError, server_context

_MODES = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRE: ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate, when it is shown, and the clients it trusts."""

    name: str  # whose it is; connections carry it as `identity`
    cert_pem: bytes = field(repr=False)  # chain, leaf first
    key_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None = field(default=None, repr=False)
    client_auth: ClientAuth = ClientAuth.OPTIONAL  # without a client CA: NONE
    names: tuple[str, ...] = ()  # of SNI: exact, or "*.x" for one label
    addresses: tuple[str, ...] = ()  # local IP addresses

    @property
    def trust(self) -> bytes:
        """A digest of the client CAs, to tell whether a connection was verified against those of today."""
        return hashlib.sha256(self.client_ca_pem).digest() if self.client_ca_pem else b""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What all identities of a listener have in common."""

    min_version: str = "1.2"
    max_version: str = ""  # empty: the newest
    cipher_suites: tuple[str, ...] = ()  # IANA names, for TLS 1.2; TLS 1.3's own are always on
    alpn: tuple[str, ...] = ("h2", "http/1.1")


class IdentityContext(ssl.SSLContext):
    """A context that knows whose it is."""

    identity: Identity


def build_identity(identity: Identity, policy: TlsPolicy) -> IdentityContext:
    """The context of one identity. TlsError says what is wrong with it, by its name."""
    context = server_context(IdentityContext, policy)
    context.identity = identity
    load_pair(context, identity.cert_pem, identity.key_pem, identity.name)
    if identity.client_ca_pem:
        load_authorities(context, identity.client_ca_pem, identity.name)
        context.verify_mode = _MODES[identity.client_auth]
    elif identity.client_auth is ClientAuth.REQUIRE:
        raise TlsError(f"{identity.name}: client certificates are required, but there is no client CA")
    return context


class DynamicTls:
    """The identities of a listener."""

    def __init__(self, default: Identity, policy: TlsPolicy | None = None) -> None:
        self._policy = policy or TlsPolicy()
        self._contexts: dict[Identity, IdentityContext] = {}
        self._checked: dict[Identity, IdentityContext] = {}
        self._by_name: dict[str, IdentityContext] = {}
        self._by_address: dict[str, IdentityContext] = {}
        self._trust: dict[str, bytes] = {}
        self._identity = default
        self._default = self._context(default)
        self.replace(())

    def check(self, identity: Identity) -> None:
        """TlsError when `replace` could not use this identity; what was built for it is kept until then."""
        self._checked[identity] = self._context(identity)

    def replace(self, identities: Iterable[Identity], default: Identity | None = None) -> None:
        """Use these for new handshakes; connections live on. The first to claim a name or address has it.

        TlsError, and nothing changes, when one of them cannot be used.
        """
        fallback = default or self._identity
        wanted = {identity: self._context(identity) for identity in (*identities, fallback)}
        by_name: dict[str, IdentityContext] = {}
        by_address: dict[str, IdentityContext] = {}
        for identity, context in wanted.items():
            for name in identity.names:
                by_name.setdefault(_normal(name), context)
            for address in identity.addresses:
                by_address.setdefault(address, context)
        self._contexts, self._by_name, self._by_address = wanted, by_name, by_address
        self._identity, self._default = fallback, wanted[fallback]
        self._trust = {identity.name: identity.trust for identity in wanted}
        self._checked = {}

    def trusts(self, identity: Identity) -> bool:
        """Whether a client that was verified as this identity says would be verified against the same CAs today."""
        return self._trust.get(identity.name) == identity.trust

    def base(self, local_ip: str, server_name: str | None = None) -> ssl.SSLContext:
        """The context for a client that connected to this address and asks for this name."""
        named = self._named(server_name)
        return named if named is not None else self._by_address.get(local_ip, self._default)

    def _named(self, server_name: str | None) -> IdentityContext | None:
        if not server_name:
            return None
        name = _normal(server_name)
        found = self._by_name.get(name)
        return found if found is not None else self._by_name.get("*." + name.partition(".")[2])

    def _context(self, identity: Identity) -> IdentityContext:
        context = self._contexts.get(identity) or self._checked.get(identity)
        if context is None:
            context = build_identity(identity, self._policy)
        return context


def chosen_identity(ssl_object: Any) -> Identity | None:
    """Whose certificate a finished handshake showed."""
    return getattr(ssl_object.context, "identity", None)


def _normal(name: str) -> str:
    return name.lower().rstrip(".")
