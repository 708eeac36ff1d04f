"""Self-signed server certificates: made in memory, or kept in a directory and renewed when they expire.

Such a certificate encrypts; it proves an identity only to a client that was given it as its CA. Every file is created
with mode 0600 whatever the umask, and replaces the one before by rename, certificate last.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from wharf.common.private_files import create_private, make_private_directory

_CLOCK_SKEW: Final = timedelta(minutes=5)  # of a client whose clock is behind
_RENEW_SHARE: Final = 0.1  # of its validity that a certificate has left when it is renewed


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


def make_self_signed(hosts: tuple[str, ...], common_name: str, validity: timedelta, now: datetime) -> CertificatePair:
    """A certificate for these DNS names and IP addresses, valid from shortly before `now`; ECDSA on P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return CertificatePair(certificate.public_bytes(pem), private)


class KeptCertificate:
    """A self-signed certificate in the files `cert.pem` and `key.pem` of a directory."""

    def __init__(self, directory: Path, hosts: tuple[str, ...], common_name: str, validity: timedelta) -> None:
        self.cert_file, self.key_file = directory / "cert.pem", directory / "key.pem"
        self._hosts, self._common_name, self._validity = hosts, common_name, validity

    def ensure(self, now: datetime | None = None) -> bool:
        """Make the pair if there is none, or it is unusable, of other hosts or about to expire; whether it was made.

        OSError if the directory cannot be written.
        """
        now = datetime.now(UTC) if now is None else now
        if self._usable(now):
            return False
        make_private_directory(self.cert_file.parent)
        pair = make_self_signed(self._hosts, self._common_name, self._validity, now)
        _write_private(self.key_file, pair.key)
        _write_private(self.cert_file, pair.certificate)
        return True

    def _usable(self, now: datetime) -> bool:
        try:
            found = x509.load_pem_x509_certificate(self.cert_file.read_bytes())
            key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
            return False
        if found.public_key() != key.public_key() or list(names) != [_general_name(host) for host in self._hosts]:
            return False
        return found.not_valid_after_utc - now > self._validity * _RENEW_SHARE


def _write_private(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with create_private(fresh, replace=True) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode())
