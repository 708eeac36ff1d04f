"""Whom a client certificate names, and which ones do not get that far."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from gateway.authn_kit import EPOCH_S, KEY, UID, certificate, user_certificate
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.user import User
from wharf.gateway.x509 import BadClientCertificate, certificate_user
from wharf.wire.server_tls import Identity, TlsPolicy, build_identity
from wire.pki import Authority

CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741 — what certificates call it


@pytest.mark.parametrize(
    ("names", "user"),
    [
        ([(CN, "jane")], User("jane", ("system:authenticated",))),
        ([(O, "b"), (CN, "jane"), (O, "a"), (O, "b")], User("jane", ("b", "a", "b", "system:authenticated"))),
        ([(CN, "x"), (CN, "jané")], User("jané", ("system:authenticated",))),
        ([(CN, "jane"), (UID, "7")], User("jane", ("system:authenticated",), "7")),
        ([(CN, "a"), (O, "system:authenticated")], User("a", ("system:authenticated",))),
        ([(CN, "a"), (O, "system:unauthenticated")], User("a", ("system:unauthenticated",))),
        ([(CN, "system:anonymous")], User("system:anonymous")),
    ],
)
def test_edge_06_names_are_read_as_kube_apiserver_reads_them(
    names: list[tuple[ObjectIdentifier, str]], user: User
) -> None:
    found = certificate_user(certificate(names).der)
    assert (found.user.name, found.user.groups, found.user.uid) == (user.name, user.groups, user.uid)
    assert found.not_after == EPOCH_S + 3600


@pytest.mark.parametrize("names", [[], [(O, "system:masters")], [(CN, "jane"), (UID, "1"), (UID, "2")]])
def test_edge_06_certificates_that_name_nobody_are_refused(names: list[tuple[ObjectIdentifier, str]]) -> None:
    with pytest.raises(BadClientCertificate):
        certificate_user(certificate(names).der)


def with_serial(der: bytes, first: int) -> bytes:
    """The certificate with another first byte of its serial number; its signature is not checked here."""
    number = x509.load_der_x509_certificate(der).serial_number
    length = (number.bit_length() + 8) // 8
    old = b"\x02" + bytes([length]) + number.to_bytes(length, "big")
    assert der.count(old) == 1
    return der.replace(old, old[:2] + bytes([first]) + old[3:])


def test_certificate_with_a_negative_serial_number_is_refused_and_with_a_positive_one_accepted() -> None:
    der = user_certificate("jane").der
    assert certificate_user(with_serial(der, 0x7F)).user.name == "jane"
    with pytest.raises(BadClientCertificate):
        certificate_user(with_serial(der, 0x80))


@given(st.binary(max_size=64), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(junk: bytes, at: int) -> None:
    der = user_certificate("jane", "dev").der
    for data in (junk, der[:at] + junk + der[at + len(junk) :]):
        try:
            certificate_user(data)
        except BadClientCertificate:
            continue


def signed(folder: Path, authority: Authority, usage: ObjectIdentifier) -> ssl.SSLContext:
    """A client with a certificate for this use."""
    subject = x509.Name([x509.NameAttribute(CN, "jane")])
    one = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.certificate.not_valid_before_utc)
        .not_valid_after(authority.certificate.not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(authority._key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "pair.pem").write_bytes(key + one.public_bytes(pem))
    context = ssl.create_default_context(cafile=authority.ca_file)
    context.load_cert_chain(folder / "pair.pem")
    return context


@pytest.mark.parametrize(
    ("usage", "accepted"), [(ExtendedKeyUsageOID.CLIENT_AUTH, True), (ExtendedKeyUsageOID.SERVER_AUTH, False)]
)
def test_edge_06_a_certificate_must_be_meant_for_clients(
    tmp_path: Path, usage: ObjectIdentifier, accepted: bool
) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    cert, key, ca = (Path(name).read_bytes() for name in (files.cert, files.key, authority.ca_file))
    server = build_identity(Identity("prod", cert, key, ca), TlsPolicy())
    assert shakes_hands(server, signed(tmp_path, authority, usage)) is accepted


def shakes_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether the server takes the client, without sockets."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                if side is ours:
                    raise
                return False
    return theirs.getpeercert(binary_form=True) is not None
