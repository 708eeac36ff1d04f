"""Certificates: what they are good for, what is kept and what is made anew, who can read keys."""

from __future__ import annotations

import ssl
import stat
import threading
from contextlib import closing
from pathlib import Path
from socket import socketpair

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from wharf.cli.kube.pki import Authority, KeyPair, signing_key


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """The client's certificate subject as the server sees it."""
    ours, theirs = socketpair()
    problems: list[Exception] = []

    def accept() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as tls:
                peer = tls.getpeercert()
                assert peer is not None
                tls.sendall(repr(peer["subject"]).encode())
        except (OSError, ssl.SSLError) as refused:
            problems.append(refused)
            theirs.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with closing(ours), client.wrap_socket(ours, server_hostname=name) as tls:
            return tls.recv(4096).decode()
    finally:
        thread.join(10)


def contexts(authority: Authority, server: KeyPair, client: KeyPair) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.cert))
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(server.cert, server.key)
    asking = ssl.create_default_context(cafile=str(authority.cert))
    asking.load_cert_chain(client.cert, client.key)
    return serving, asking


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_mutual_tls_between_what_one_authority_signed(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    server = authority.server("server", ("127.0.0.1", "localhost", "::1"))
    client = authority.client("client", "somebody", ("system:masters",))
    seen = handshake(*contexts(authority, server, client), name)
    assert "somebody" in seen
    assert "system:masters" in seen


def test_another_name_and_another_authority_are_refused(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    server = authority.server("server", ("localhost",))
    serving, asking = contexts(authority, server, authority.client("client", "somebody"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(serving, asking, "elsewhere")
    _, stranger = contexts(other, server, other.client("client", "somebody"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(serving, stranger, "localhost")


def test_everything_valid_is_kept(tmp_path: Path) -> None:
    def make() -> list[bytes]:
        authority = Authority(tmp_path)
        pairs = [
            authority.pair,
            authority.server("server", ("localhost",)),
            authority.client("client", "somebody"),
            signing_key(tmp_path, "tokens"),
        ]
        return [path.read_bytes() for pair in pairs for path in (pair.cert, pair.key)]

    assert make() == make()


def test_a_further_name_or_another_subject_makes_it_anew(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first = authority.server("server", ("localhost",)).cert.read_bytes()
    more = authority.server("server", ("localhost", "10.0.0.1"))
    assert more.cert.read_bytes() != first
    names = more.load_cert().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(one.value) for one in names} == {"localhost", "10.0.0.1"}
    assert authority.server("server", ("localhost",)).cert.read_bytes() == more.cert.read_bytes()

    authority.client("client", "somebody")
    other = authority.client("client", "somebody", ("group",)).load_cert()
    assert [one.value for one in other.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["group"]


def test_a_new_authority_makes_its_pairs_anew(tmp_path: Path) -> None:
    first = Authority(tmp_path).client("client", "somebody").cert.read_bytes()
    (tmp_path / "ca.crt").unlink()
    assert Authority(tmp_path).client("client", "somebody").cert.read_bytes() != first


def test_a_client_cannot_serve_and_keys_are_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.client("client", "somebody")
    usage = client.load_cert().extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    signing_key(tmp_path, "tokens")
    for key in tmp_path.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, key


def test_signing_key_is_a_pair(tmp_path: Path) -> None:
    pair = signing_key(tmp_path, "tokens")
    public = serialization.load_pem_public_key(pair.cert.read_bytes())
    assert public == pair.load_key().public_key()
