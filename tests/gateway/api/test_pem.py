"""Certificates that are none are refused in one way, whatever is wrong: no document ends the reading of all others."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.pem import check_ca, check_certificate, check_pair
from wharf.gateway.x509 import BadClientCertificate, certificate_user
from wire.pki import Authority

VERSION = b"\xa0\x03\x02\x01\x02"  # 3, as it stands in a certificate


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    text = Path(Authority(tmp_path_factory.mktemp("pki")).ca_file).read_text()
    return base64.b64decode("".join(line for line in text.splitlines() if not line.startswith("-----")))


def test_a_certificate_of_a_version_that_is_none(der: bytes) -> None:
    assert VERSION in der
    broken = der.replace(VERSION, VERSION[:-1] + b"\x7f")
    for check in (check_ca, check_certificate):
        with pytest.raises(ValueError, match="PEM certificate"):
            check(pem(broken))
    with pytest.raises(BadClientCertificate):
        certificate_user(broken)


@pytest.mark.parametrize(
    ("serial", "accepted"), [(b"\x01", True), (b"\x00", True), (b"\xff", False)], ids=["1", "0", "-1"]
)
def test_a_negative_serial_number_is_refused_and_zero_is_not(der: bytes, serial: bytes, accepted: bool) -> None:
    """As Go reads certificates."""
    one = pem(with_short_serial(der, serial))
    for check in (check_ca, check_certificate):
        if accepted:
            check(one)
        else:
            with pytest.raises(ValueError, match="PEM certificate"):
                check(one)


def with_short_serial(der: bytes, serial: bytes) -> bytes:
    """The certificate with this byte for a serial number; its signature is not checked here."""
    body, end = element(der, element(der, 0)[0])
    version_end = element(der, body)[1]
    serial_end = element(der, version_end)[1]
    changed = der[body:version_end] + b"\x02\x01" + serial + der[serial_end:end]
    return sequence(sequence(changed) + der[end:])


def element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` begins and ends."""
    size, start = der[at + 1], at + 2
    if size >= 0x80:
        size, start = int.from_bytes(der[start : start + size - 0x80], "big"), start + size - 0x80
    return start, start + size


def sequence(content: bytes) -> bytes:
    size = len(content)
    length = b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")
    return b"\x30" + length + content


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_is_a_value_error(der: bytes, edits: list[tuple[int, int]]) -> None:
    damaged = bytearray(der)
    for at, byte in edits:
        damaged[at % len(der)] = byte
    text = pem(bytes(damaged))
    with contextlib.suppress(ValueError):
        check_ca(text)
    with contextlib.suppress(ValueError):
        check_pair(text, text)
    with contextlib.suppress(BadClientCertificate):
        certificate_user(bytes(damaged))
