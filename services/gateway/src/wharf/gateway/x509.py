"""Whom a client certificate names, as kube-apiserver reads it. Pure.

Only for certificates that the TLS handshake verified against the CA of the very cluster; this reads names, it proves
nothing. Source: k8s.io/apiserver, pkg/authentication/request/x509 (the last common name counts, every organization is a
group, in order); Go's crypto/x509/pkix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.x509.oid import NameOID, ObjectIdentifier
from wharf.gateway.certificates import load_der
from wharf.gateway.user import User, with_usual_group

_UID: Final = ObjectIdentifier("1.3.6.1.4.1.57683.2")
_CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"


class BadClientCertificate(ValueError):
    """A certificate that names no user, or not clearly."""


@dataclass(frozen=True, slots=True)
class CertificateUser:
    """The user of a certificate, until it expires."""

    user: User
    not_after: float  # seconds since the epoch


def certificate_user(der: bytes) -> CertificateUser:
    """The user that a certificate names. BadClientCertificate when it has no common name, or several uids."""
    try:
        certificate = load_der(der)
        names = certificate.subject
        common_names = [str(name.value) for name in names.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(name.value) for name in names.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        uids = [str(name.value) for name in names.get_attributes_for_oid(_UID)]
        not_after = certificate.not_valid_after_utc.timestamp()
    except ValueError as error:
        raise BadClientCertificate("the client certificate cannot be read") from error
    if not common_names or not common_names[-1]:
        raise BadClientCertificate("the client certificate has no common name")
    if len(uids) > 1 or "" in uids:
        raise BadClientCertificate("the client certificate has no single uid")
    extra = {_CREDENTIAL_ID: (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    user = User(common_names[-1], tuple(groups), "".join(uids), extra)
    return CertificateUser(with_usual_group(user), not_after)
