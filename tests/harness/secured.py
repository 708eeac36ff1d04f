"""A replicated brain with nothing in the clear: TLS and a password on every connection, every secret known by name.

    with SecuredParts(folder) as parts, SecuredNode(parts, "n1", folder) as node: ...

The client port trusts one authority, the control port another, and each server behind has one of its own. Secrets reach
a node by its environment, as the docs advise. `leaks` finds any of them wherever a node may have written it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sys import prefix
from types import TracebackType
from typing import Self
from urllib.parse import quote

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from wharf.cli.kube.pki import Authority, KeyPair
from wharf.cli.kube.process import Process

from harness.backing import Nats, Postgres, Redis
from harness.daemon import LOOPBACK, lasting_port
from harness.store import READY_LINE

POSTGRES_PASSWORD = "low tide:9/@%x"
REDIS_PASSWORD = "undertow:7/@%y"
NATS_PASSWORD = "breakwater:5/@%z"
WRONG_PASSWORD = "flotsam:3/@%w"
READY_SECONDS = 60.0
_STOP_SECONDS = 60.0


Server = Postgres | Redis | Nats


class SecuredParts:
    """The servers behind, and the authorities of the two ports."""

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(password=POSTGRES_PASSWORD, tls=True)
        self.redis = Redis(folder / "redis", password=REDIS_PASSWORD, tls=True)
        self.nats = Nats(folder / "nats", user="wharf", password=NATS_PASSWORD, tls=True)
        self.clients, self.peers = Authority(folder / "clients"), Authority(folder / "peers")

    @property
    def servers(self) -> tuple[Server, ...]:
        return (self.postgres, self.redis, self.nats)

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                list(pool.map(lambda server: server.start(), self.servers))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def environment(self, **others: str) -> dict[str, str]:
        """What a node is told about the servers: WHARF_BRAIN_<name>; `others` instead of the usual."""
        pki = self.nats.certificates
        assert pki is not None
        told = {
            "engine": self.postgres.url,
            "redis": self.redis.url,
            "nats": self.nats.url,
            "nats_ca_file": str(pki.ca),
            "nats_cert_file": str(pki.client.cert),
            "nats_key_file": str(pki.client.key),
        }
        return {f"WHARF_BRAIN_{name.upper()}": text for name, text in (told | others).items()}


class SecuredNode:
    """One node over `parts`; in a `with` block it is started, and dead at the end."""

    def __init__(self, parts: SecuredParts, name: str, folder: Path, flags: Sequence[str] = (), **others: str) -> None:
        self.name, self.folder, self._parts = name, folder / name, parts
        self.client_port, self.control_port, self.metrics_port = lasting_port(), lasting_port(), lasting_port()
        self.client_pair = parts.clients.server(name, (LOOPBACK,))
        self.peer_pair = parts.peers.server(name, (LOOPBACK,))
        words = [
            str(Path(prefix) / "bin" / "wharf"),
            "brain",
            f"--name={name}",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls=https://{self.address}",
            f"--advertise-client-urls=https://{self.address}",
            f"--cert-file={self.client_pair.cert}",
            f"--key-file={self.client_pair.key}",
            f"--trusted-ca-file={parts.clients.cert}",
            "--client-cert-auth",
            f"--listen-peer-urls=https://{self.control}",
            f"--initial-advertise-peer-urls=https://{self.control}",
            f"--peer-cert-file={self.peer_pair.cert}",
            f"--peer-key-file={self.peer_pair.key}",
            f"--peer-trusted-ca-file={parts.peers.cert}",
            "--peer-client-cert-auth",
            f"--listen-metrics-urls=http://{LOOPBACK}:{self.metrics_port}",
            "--log-level=debug",
            *flags,
        ]
        self.process = Process(name, words, self.folder / "brain.log", parts.environment(**others))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.client_port}"

    @property
    def control(self) -> str:
        return f"{LOOPBACK}:{self.control_port}"

    def start(self, until: str = READY_LINE) -> Self:
        self.process.start()
        self.process.wait_logged(until, READY_SECONDS)
        return self

    def stop(self) -> int | None:
        return self.process.stop(_STOP_SECONDS)

    def log(self) -> str:
        """All of it, of every start."""
        return self.process.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.process.kill()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()


def credentials(pair: KeyPair | None, ca: Path) -> grpc.ChannelCredentials:
    """What a client shows, and whom it trusts."""
    key, cert = (None, None) if pair is None else (pair.key.read_bytes(), pair.cert.read_bytes())
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)


def leaks(text: str) -> Mapping[str, str]:
    """Every secret in `text`, in any spelling: the secret and the line it is in. Keys of certificates count too."""
    spellings = [
        form
        for secret in (POSTGRES_PASSWORD, REDIS_PASSWORD, NATS_PASSWORD, WRONG_PASSWORD)
        for form in (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], secret.split(":", 1)[0])
    ]
    spellings.append("PRIVATE KEY")
    return {word: line for word in spellings for line in text.splitlines() if word in line}


def reissue(authority: Authority, pair: KeyPair, hosts: Sequence[str], *, expired: bool = False) -> None:
    """Write `pair`'s certificate anew, for the same key: for other DNS names, or of a time that is over."""
    old, key, issuer = pair.load_cert(), pair.load_key(), authority.pair
    now = datetime.datetime.now(datetime.UTC)
    end = now - datetime.timedelta(hours=1) if expired else now + datetime.timedelta(days=90)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(end)
    )
    for extension in old.extensions:
        one = names if hosts and isinstance(extension.value, x509.SubjectAlternativeName) else extension.value
        builder = builder.add_extension(one, extension.critical)
    signed = builder.sign(issuer.load_key(), hashes.SHA256())
    pair.cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
