"""What certificates, keys and tokens must look like, wherever they come from. Errors never repeat what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate
from wharf.gateway.certificates import load_pem


def check_certificate(pem: bytes) -> None:
    """A chain, the leaf first; ValueError otherwise."""
    _certificates(pem)


def check_ca(pem: bytes) -> None:
    """One or more CA certificates; ValueError otherwise."""
    for certificate in _certificates(pem):
        try:
            basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            continue  # version 1 roots have no extensions
        except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ValueError("a CA certificate (its extensions cannot be read)") from error
        if not basic.ca:
            raise ValueError("a CA certificate (basicConstraints says CA:FALSE)")


def check_key(pem: bytes) -> None:
    """An unencrypted private key; ValueError otherwise."""
    _public_key(pem)


def check_token(token: bytes) -> None:
    """One line that may stand in a header; ValueError otherwise."""
    if not re.fullmatch(rb"[\x21-\x7e]{1,16384}", token):
        raise ValueError("a token: one line of visible ASCII characters without spaces")


def check_pair(certificate_pem: bytes, key_pem: bytes) -> None:
    """The key must be the leaf certificate's; ValueError otherwise."""
    try:
        leaf = _certificates(certificate_pem)[0].public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("the key of a certificate of a known kind") from error
    if leaf.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != _public_key(key_pem):
        raise ValueError("the key of the certificate")


CHECKS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "certificate": check_certificate,
    "key": check_key,
    "ca": check_ca,
    "token": check_token,
}


def _certificates(pem: bytes) -> list[Certificate]:
    try:
        return load_pem(pem)
    except ValueError as error:
        raise ValueError("a PEM certificate") from error


def _public_key(pem: bytes) -> bytes:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError as error:
        raise ValueError("an unencrypted private key (this one has a password)") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("a PEM private key") from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
