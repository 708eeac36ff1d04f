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
