"""TLS material from memory: what OpenSSL only reads from files is shown to it as one that has no name.

Invariant: a private key is never written to a disk.
"""

from __future__ import annotations

import os
import ssl

from wharf.wire.tls import TlsError


def load_pair(context: ssl.SSLContext, cert_pem: bytes, key_pem: bytes, whose: str) -> None:
    """Give a context its own certificate chain and key; TlsError names whose they are when they cannot be used."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, key_pem + b"\n" + cert_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsError(f"{whose}: certificate and key cannot be used: {_reason(error)}") from None
    finally:
        os.close(fd)


def load_authorities(context: ssl.SSLContext, ca_pem: bytes, whose: str) -> None:
    """Trust these CAs. Like Go, and unlike OpenSSL by default, an intermediate one may be where trust begins."""
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "ignore"))
    except (OSError, ssl.SSLError, ValueError) as error:
        raise TlsError(f"{whose}: CA certificates cannot be used: {_reason(error)}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    """OpenSSL's words without its file and line numbers."""
    return getattr(error, "reason", None) or str(error) or type(error).__name__
