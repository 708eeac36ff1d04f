"""Flags of the client port as the wire understands them."""

from __future__ import annotations

from math import inf

import pytest
from wharf.brain.config import BrainConfig, load_config
from wharf.brain.front_wire import connection_limits, tls_config
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import PeerCertificate
from wharf.wire.tls import ClientAuth

TLS = ("--listen-client-urls=https://127.0.0.1:0", "--cert-file=/c", "--key-file=/k")


def config(*flags: str) -> BrainConfig:
    return load_config(flags, {}).config


def test_clients_prove_nothing_unless_a_ca_is_trusted() -> None:
    (identity,) = tls_config(config(*TLS)).identities
    assert (identity.client_auth, identity.client_ca_file) == (ClientAuth.NONE, None)


@pytest.mark.parametrize("more", [(), ("--client-cert-auth",)])
def test_a_trusted_ca_alone_requires_certificates_as_in_etcd(more: tuple[str, ...]) -> None:
    (identity,) = tls_config(config(*TLS, "--trusted-ca-file=/ca", *more)).identities
    assert (identity.client_auth, identity.client_ca_file) == (ClientAuth.REQUIRE, "/ca")


def test_versions_and_ciphers_are_carried() -> None:
    found = tls_config(config(*TLS, "--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"))
    assert (found.min_version, found.max_version) == ("1.2", "1.2")
    assert found.cipher_suites == ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",)


def certificate(*names: str) -> PeerCertificate:
    return PeerCertificate("anybody", (), names, b"")


def test_only_named_clients_are_admitted() -> None:
    flags = (*TLS, "--trusted-ca-file=/ca", "--client-cert-allowed-hostname=api.example.org,backup")
    (identity,) = tls_config(config(*flags)).identities
    assert identity.admits(certificate("backup"))
    assert identity.admits(certificate("other", "api.example.org"))
    assert identity.admits(certificate("*.example.org"))
    assert not identity.admits(certificate("backup.example.com"))
    assert not identity.admits(certificate())
    assert not identity.admits(None)


def test_limits_follow_etcds_flags() -> None:
    defaults = ConnectionLimits()
    assert connection_limits(config()) == defaults
    found = connection_limits(
        config("--max-concurrent-streams=7", "--grpc-keepalive-interval=0", "--grpc-keepalive-timeout=3s")
    )
    assert (found.concurrent_streams, found.keepalive_interval, found.keepalive_timeout) == (7, inf, 3.0)
    assert connection_limits(config("--grpc-keepalive-min-time=10s")).ping_interval_min == 8.0
