"""Stand-ins for authentication tests: certificates, requests, a cluster that answers reviews."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier
from wharf.common.kube.client import Document
from wharf.gateway.api.shapes import Authentication, IdentityMode, TokenMode, Upstream, UpstreamCluster
from wharf.wire.rpc import Peer, PeerCertificate
from wharf.wire.web import Exchange, Header

UID = ObjectIdentifier("1.3.6.1.4.1.57683.2")
KEY = ec.generate_private_key(ec.SECP256R1())
EPOCH_S = 1_700_000_000  # where FakeClock begins


def certificate(
    names: list[tuple[ObjectIdentifier, str]], not_after: float = EPOCH_S + 3600, usage: ObjectIdentifier | None = None
) -> PeerCertificate:
    """A certificate with this subject, as the wire hands it over."""
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    begin = datetime.datetime.fromtimestamp(EPOCH_S - 3600, datetime.UTC)
    end = datetime.datetime.fromtimestamp(not_after, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    der = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return PeerCertificate("", (), (), der)


def user_certificate(name: str, *groups: str, not_after: float = EPOCH_S + 3600) -> PeerCertificate:
    organizations = [(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return certificate([*organizations, (NameOID.COMMON_NAME, name)], not_after)


@dataclass
class Connection:
    peer: Peer


@dataclass
class Asked:
    """A request as far as authentication looks at it."""

    headers: list[Header]
    connection: Connection
    wants_upgrade: bool = False

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    def has_prefix(self, prefix: bytes) -> bool:
        return any(name.startswith(prefix) for name, _ in self.headers)


def request(*headers: Header, by: PeerCertificate | None = None) -> Exchange:
    """A request with these headers, on a connection with this client certificate."""
    asked = Asked(list(headers), Connection(Peer("127.0.0.1:1", by)))
    asked.wants_upgrade = asked.header(b"upgrade") is not None
    return cast(Exchange, asked)


def cluster(
    tokens: TokenMode = TokenMode.PASS_THROUGH,
    identity: IdentityMode = IdentityMode.FRONT_PROXY,
    **settings: Any,
) -> UpstreamCluster:
    return UpstreamCluster(
        "prod", authentication=Authentication(tokens=tokens, **settings), upstream=Upstream(identity=identity)
    )


@dataclass
class Reviews:
    """A cluster that answers what `answer` makes of a review's spec, once `gate` is open."""

    answer: Callable[[Document], Document]
    asked: list[Document] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)  # raised first, one each
    gate: asyncio.Event | None = None

    async def create(self, path: str, document: Document, *, seconds: float = 0.0) -> Document:
        self.paths.append(path)
        self.asked.append(document.get("spec", {}))
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return {"kind": document["kind"], "status": self.answer(document.get("spec", {}))}
