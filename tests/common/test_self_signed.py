"""A kept self-signed certificate is private, stays while it is usable and is renewed before it expires."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from wharf.common.self_signed import KeptCertificate, make_self_signed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
HOSTS = ("127.0.0.1", "localhost")


def kept(folder: Path, hosts: tuple[str, ...] = HOSTS) -> KeptCertificate:
    return KeptCertificate(folder / "fixtures" / "client", hosts, "wharf-test", YEAR)


def test_certificate_is_made_once_and_loads(tmp_path: Path) -> None:
    found = kept(tmp_path)
    assert found.ensure(NOW)
    first = found.cert_file.read_bytes()
    assert not kept(tmp_path).ensure(NOW + timedelta(days=100))
    assert found.cert_file.read_bytes() == first
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.cert_file, found.key_file)
    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == list(HOSTS)


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept(tmp_path).ensure(NOW)
    finally:
        os.umask(before)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert len(found) == 2


@pytest.mark.parametrize("later", [YEAR * 0.95, YEAR * 2])
def test_certificate_is_renewed_before_it_expires(tmp_path: Path, later: timedelta) -> None:
    found = kept(tmp_path)
    found.ensure(NOW)
    assert found.ensure(NOW + later)
    certificate = x509.load_pem_x509_certificate(found.cert_file.read_bytes())
    assert certificate.not_valid_after_utc == NOW + later + YEAR


def test_certificate_of_other_hosts_or_another_key_is_replaced(tmp_path: Path) -> None:
    kept(tmp_path).ensure(NOW)
    other = kept(tmp_path, ("10.0.0.1",))
    assert other.ensure(NOW)
    other.key_file.write_bytes(make_self_signed(HOSTS, "other", YEAR, NOW).key)
    assert other.ensure(NOW)
    other.cert_file.write_bytes(b"damaged")
    assert other.ensure(NOW)
    assert not other.ensure(NOW)


def test_international_names_are_encoded(tmp_path: Path) -> None:
    found = kept(tmp_path, ("ex\u00e4mple.org",))
    assert found.ensure(NOW)
    assert not found.ensure(NOW)
    names = x509.load_pem_x509_certificate(found.cert_file.read_bytes()).extensions
    assert names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [
        "xn--exmple-cua.org"
    ]
