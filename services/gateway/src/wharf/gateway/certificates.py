"""Reads certificates as kube-apiserver does (Go's crypto/x509), with one error for all that cannot be read.

A serial number of zero is taken, because old self-signed CAs have it; a negative one is refused (RFC 5280 §4.1.2.2).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import Certificate

_loading: Final = threading.Lock()  # filters of warnings belong to the whole process


def load_der(der: bytes) -> Certificate:
    """A certificate; ValueError when it cannot be read."""
    [certificate] = _load(lambda: [x509.load_der_x509_certificate(der)])
    return certificate


def load_pem(pem: bytes) -> list[Certificate]:
    """One or more certificates; ValueError when they cannot be read."""
    return _load(lambda: x509.load_pem_x509_certificates(pem))


def _load(load: Callable[[], list[Certificate]]) -> list[Certificate]:
    with _loading, warnings.catch_warnings():
        # The library announces that it will refuse serial numbers below 1 one day.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            found = load()
        except x509.InvalidVersion as error:  # is no ValueError
            raise ValueError(str(error)) from error
        if any(certificate.serial_number < 0 for certificate in found):
            raise ValueError("the serial number is negative")
    return found
