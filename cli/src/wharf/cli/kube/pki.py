"""Certificates and keys of a local control plane: one authority, server and client certificates, a service account key.

It owns files and their modes: keys are readable by their owner only. Invariant: what exists and is still valid is kept,
so that a kubeconfig handed out once works over restarts.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from wharf.common.private_files import create_private

_LIFETIME = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=30)
_BACKDATED = datetime.timedelta(minutes=5)  # clocks of two machines differ


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key on disk."""

    cert: Path
    key: Path

    def load_cert(self) -> x509.Certificate:
        """The certificate itself."""
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    def load_key(self) -> ec.EllipticCurvePrivateKey:
        """The key; everything made here is P-256."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key} does not hold an elliptic-curve key")
        return key


class Authority:
    """A certificate authority in a folder: `<name>.crt`, `<name>.key`, and the pairs it signs beside them."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        if not _usable(self.pair, ()):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = _name(f"wharf-{name}", ())
            builder = _builder(subject, subject, key.public_key())
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
            _write(self.pair, builder.sign(key, hashes.SHA256()), key)

    @property
    def cert(self) -> Path:
        """What others must trust."""
        return self.pair.cert

    def server(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """A server certificate for DNS names and addresses; made anew when it lacks one of them."""
        return self._pair(name, _name(name, ()), tuple(hosts))

    def client(self, name: str, common_name: str, organizations: Sequence[str] = ()) -> KeyPair:
        """A client certificate; Kubernetes reads the user from CN and the groups from O."""
        return self._pair(name, _name(common_name, organizations), ())

    def _pair(self, name: str, subject: x509.Name, hosts: tuple[str, ...]) -> KeyPair:
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        issuer = self.pair.load_cert()
        if _usable(pair, hosts, issuer) and pair.load_cert().subject == subject:
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        # A server certificate is a client one too, as kubeadm makes etcd's: one pair serves and probes.
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        builder = _builder(subject, issuer.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(h) for h in hosts]), critical=False)
        _write(pair, builder.sign(self.pair.load_key(), hashes.SHA256()), key)
        return pair


def signing_key(folder: Path, name: str) -> KeyPair:
    """A key and its public half, for service account tokens (`cert` holds the public key)."""
    pair = KeyPair(folder / f"{name}.pub", folder / f"{name}.key")
    if not (pair.cert.is_file() and pair.key.is_file()):
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write_private(pair.key, _key_pem(key))
        pair.cert.write_bytes(public)
    return pair


def _usable(pair: KeyPair, hosts: Sequence[str], issuer: x509.Certificate | None = None) -> bool:
    """True when the pair is there, valid for a while, from this issuer and for all these hosts."""
    if not (pair.cert.is_file() and pair.key.is_file()):
        return False
    cert = pair.load_cert()
    if cert.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < _RENEW_BEFORE:
        return False
    if issuer is not None:
        try:
            cert.verify_directly_issued_by(issuer)
        except Exception:
            return False
    if not hosts:
        return True
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return all(_general(host) in names for host in hosts)


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(pair: KeyPair, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _write_private(pair.key, _key_pem(key))
    pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    """Never readable by others, not even for the moment before a chmod."""
    with create_private(path, replace=True) as file:
        file.write(content)
