"""TLS contexts: a certificate and a client CA per server name, read again when their files change.

The server name is known before the handshake begins (`accept`), so each name's own context serves it from the start.

Invariant: a handshake uses one consistent set of files, the last that loaded without error. Sessions are not resumed:
a resumed session would carry a client identity over to another name or past a changed CA.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from wharf.wire.certificates import parse_peer_certificate
from wharf.wire.openssl import disable_session_cache
from wharf.wire.rpc import PeerCertificate

log = logging.getLogger("wharf.wire")


class TlsError(Exception):
    """A TLS configuration that cannot be used; the text names the file or option."""


class ClientAuth(Enum):
    """What is asked of a client."""

    NONE = "none"
    OPTIONAL = "verify-if-given"  # a certificate is verified when there is one
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A certificate, the names it is shown for, and the clients it trusts."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None
    client_auth: ClientAuth = ClientAuth.NONE
    client_names: tuple[str, ...] = ()  # a client's certificate must have one of these DNS names; none: any will do
    server_names: tuple[str, ...] = ()  # exact or "*.example.org"; none: the default identity

    def admits(self, certificate: PeerCertificate | None) -> bool:
        """Whether a verified client certificate, or none, meets this identity's own policy."""
        if certificate is None:
            return self.client_auth is not ClientAuth.REQUIRE
        return not self.client_names or any(
            match_name(carried, name.lower()) for carried in certificate.dns_names for name in self.client_names
        )


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS of a listener. The first identity serves every name that no other one claims."""

    identities: tuple[TlsIdentity, ...]
    min_version: str = "1.2"
    max_version: str = ""  # empty: the newest
    cipher_suites: tuple[str, ...] = ()  # IANA names, for TLS 1.2; TLS 1.3's own are always on
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    reload_interval: float = 1.0  # seconds between looks at the files, made when a client connects


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
TLS13_SUITES = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
OPENSSL_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
_Stamp = tuple[tuple[int, int, int], ...]
_MODES = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRE: ssl.CERT_REQUIRED,
}


def openssl_ciphers(suites: tuple[str, ...]) -> str | None:
    """OpenSSL's list for TLS 1.2 suites by IANA name; None: leave the default. TlsError names an unknown suite."""
    names = []
    for suite in suites:
        if suite in TLS13_SUITES:
            continue
        if suite not in OPENSSL_SUITES:
            raise TlsError(f"unknown cipher suite {suite!r}")
        names.append(OPENSSL_SUITES[suite])
    return ":".join(names) or None


class ContextPolicy(Protocol):
    """What all contexts of a listener have in common; `TlsConfig` describes the fields."""

    @property
    def min_version(self) -> str: ...
    @property
    def max_version(self) -> str: ...
    @property
    def cipher_suites(self) -> tuple[str, ...]: ...
    @property
    def alpn(self) -> tuple[str, ...]: ...


class IdentityContext(ssl.SSLContext):
    """A context that holds the identity it was built from."""

    identity: TlsIdentity


_Context = TypeVar("_Context", bound=ssl.SSLContext)


def server_context(kind: type[_Context], policy: ContextPolicy) -> _Context:
    """A context for one identity of a listener, its certificates not loaded yet. TlsError names a bad option.

    Invariant: no handshake with it resumes a session. Tickets and the session cache are off; a handshake that resumes
    all the same is refused with an alert.
    """
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = VERSIONS[policy.min_version]
        if policy.max_version:
            context.maximum_version = VERSIONS[policy.max_version]
    except KeyError as error:
        raise TlsError(f"TLS version {error} is not one of {', '.join(VERSIONS)}") from error
    ciphers = openssl_ciphers(policy.cipher_suites)
    if ciphers is not None:
        context.set_ciphers(ciphers)
    context.set_alpn_protocols(list(policy.alpn))
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    disable_session_cache(context)
    context.sni_callback = _on_client_hello
    return context


def _on_client_hello(sslobj: Any, server_name: str | None, _: ssl.SSLContext) -> int | None:
    """Called by OpenSSL in every handshake, with or without a server name; an alert's number refuses it."""
    sslobj.wharf_server_name = server_name
    return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE if sslobj.session_reused else None


def build_context(identity: TlsIdentity, config: TlsConfig) -> IdentityContext:
    """The context of one identity, its files read now."""
    context = server_context(IdentityContext, config)
    context.identity = identity
    try:
        context.load_cert_chain(identity.cert_file, identity.key_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot load {identity.cert_file} with {identity.key_file}: {error}") from error
    if identity.client_auth is not ClientAuth.NONE and identity.client_ca_file is None:
        raise TlsError("client certificates are to be verified, but no client CA file is given")
    if identity.client_ca_file is not None:
        try:
            context.load_verify_locations(identity.client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"cannot load client CA {identity.client_ca_file}: {error}") from error
    context.verify_mode = _MODES[identity.client_auth]
    return context


def match_name(pattern: str, name: str) -> bool:
    """Whether a server name is meant by an exact name or a one-label wildcard."""
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:].lower()
    return name == pattern.lower()


class TlsStore:
    """The contexts of a listener."""

    def __init__(self, config: TlsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        if not config.identities:
            raise TlsError("TLS needs at least one certificate")
        self.reloads = 0
        self.failures = 0
        self._config = config
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._read_stamp()
        self._contexts = self._build()

    def context(self, server_name: str | None = None) -> IdentityContext:
        """The context for a client that asks for this name; looks at the files first, when that was not done lately."""
        now = self._clock()
        if now - self._looked_at >= self._config.reload_interval:
            self._looked_at = now
            self._reload()
        return self._contexts[self._index_for(server_name)]

    def _index_for(self, server_name: str | None) -> int:
        name = (server_name or "").lower().rstrip(".")
        for exact in (True, False):
            for index, identity in enumerate(self._config.identities):
                for pattern in identity.server_names:
                    if pattern.startswith("*.") is not exact and match_name(pattern, name):
                        return index
        return 0

    def _build(self) -> list[IdentityContext]:
        return [build_context(identity, self._config) for identity in self._config.identities]

    def _reload(self) -> None:
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            self._contexts = self._build()
        except TlsError as error:
            self.failures += 1
            log.warning("TLS files changed but cannot be used, the old ones stay: %s", error)
            return
        self._stamp = stamp
        self.reloads += 1
        log.info("TLS files reloaded")

    def _read_stamp(self) -> _Stamp:
        stamps = []
        for identity in self._config.identities:
            for path in (identity.cert_file, identity.key_file, identity.client_ca_file):
                if path is not None:
                    try:
                        found = os.stat(path)
                    except OSError as error:
                        raise TlsError(f"cannot read {path}: {error.strerror}") from error
                    stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return tuple(stamps)


def peer_certificate(ssl_object: Any) -> PeerCertificate | None:
    """The client's verified certificate, if it showed one."""
    der = ssl_object.getpeercert(True)
    return parse_peer_certificate(der) if der else None


def looks_like_tls(data: bytes) -> bool:
    """Whether these first bytes are a TLS record with a handshake in it."""
    return data[:1] == b"\x16" and data[1:2] in (b"", b"\x03")
