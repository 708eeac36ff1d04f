"""A node with wrong passwords, or with servers whose certificates do not hold: it says so in one line for each, with
what to look at, goes on trying, and serves once that is set right. Whatever happens, it says no secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
from harness.secured import (
    NATS_PASSWORD,
    POSTGRES_PASSWORD,
    REDIS_PASSWORD,
    WRONG_PASSWORD,
    SecuredNode,
    SecuredParts,
    Server,
    leaks,
    reissue,
)
from harness.store import READY_LINE
from wharf.cli.kube.pki import Authority

PASSWORDS = {"engine": POSTGRES_PASSWORD, "redis": REDIS_PASSWORD, "nats": NATS_PASSWORD}
REFUSED = {
    "engine": ("password authentication failed", "see user and password in the engine's URL"),
    "redis": ("refuses the user or password of the Redis URL", ""),
    "nats": ("the server refuses the user, password or credentials", ""),
}
LOOK_AT = {
    "engine": "see sslmode, sslrootcert, sslcert and sslkey in the engine's URL",
    "redis": "see rediss://, ssl_ca_certs, ssl_certfile and ssl_keyfile in the Redis URL",
    "nats": "see the CA, certificate and key files for NATS",
}
WRONG = {
    "authority": "certificate",
    "expired": "certificate has expired",
    "name": "certificate is not valid for '127.0.0.1'",
}
SECONDS = 60.0


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredParts]:
    with SecuredParts(tmp_path_factory.mktemp("misled")) as parts:
        yield parts


@contextmanager
def starting(node: SecuredNode) -> Iterator[SecuredNode]:
    """Not ready, and perhaps never; asked to stop, it stops."""
    node.process.start()
    try:
        yield node
        assert node.process.running
        assert node.stop() == 0
    finally:
        node.process.kill()
    assert leaks(node.log()) == {}
    assert "Traceback" not in node.log()


def told(node: SecuredNode, *texts: str) -> None:
    """In one line, and once."""
    node.process.wait_logged(texts[0], SECONDS)
    lines = [line for line in node.process.output().splitlines() if texts[0] in line]
    assert len(lines) == 1, lines
    for text in texts:
        assert text in lines[0]


def test_wrong_passwords(parts: SecuredParts, tmp_path: Path) -> None:
    right = {"engine": parts.postgres.url, "redis": parts.redis.url, "nats": parts.nats.url}
    wrong = {
        part: url.replace(quote(PASSWORDS[part], safe=""), quote(WRONG_PASSWORD, safe=""))
        for part, url in right.items()
    }
    alter = f"ALTER USER {parts.postgres.user} PASSWORD '%s'"
    try:
        with starting(SecuredNode(parts, "password", tmp_path, **wrong)) as node:
            told(node, *REFUSED["engine"])
            parts.postgres.sql(alter % WRONG_PASSWORD)
            told(node, *REFUSED["redis"])
            told(node, *REFUSED["nats"])
    finally:
        parts.postgres.sql(alter % POSTGRES_PASSWORD)


def test_wrong_authorities(parts: SecuredParts, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "stranger").cert.read_bytes()
    with Broken(parts, "ca") as broken, starting(SecuredNode(parts, "authority", tmp_path)) as node:
        for server in parts.servers:
            broken.path(server).write_bytes(stranger)
        set_right_one_by_one(node, broken, WRONG["authority"])


@pytest.mark.parametrize("fault", ["expired", "name"])
def test_certificates_that_do_not_hold(parts: SecuredParts, fault: str, tmp_path: Path) -> None:
    hosts = ("elsewhere.test",) if fault == "name" else ()
    with Broken(parts, "server") as broken:
        for server in parts.servers:
            assert server.certificates is not None
            reissue(Authority(server.folder / "pki"), server.certificates.server, hosts, expired=fault == "expired")
            server.restart()
        with starting(SecuredNode(parts, fault, tmp_path)) as node:
            set_right_one_by_one(node, broken, WRONG[fault])


def set_right_one_by_one(node: SecuredNode, broken: Broken, wrong: str) -> None:
    """The engine first: the rest is of no use without."""
    told(node, LOOK_AT["engine"], wrong)
    broken.mend(broken.parts.postgres)
    told(node, LOOK_AT["redis"], wrong)
    told(node, LOOK_AT["nats"], wrong)
    broken.mend(broken.parts.redis)
    node.process.wait_logged(READY_LINE, SECONDS)
    broken.mend(broken.parts.nats)
    node.process.wait_logged("events are connected", SECONDS)


class Broken:
    """One certificate file of each server that is not as it should be; all are again at the end."""

    def __init__(self, parts: SecuredParts, which: str) -> None:
        self.parts = parts
        self._which = which
        self._right = {server.name: self.path(server).read_bytes() for server in parts.servers}

    def path(self, server: Server) -> Path:
        assert server.certificates is not None
        return server.certificates.ca if self._which == "ca" else server.certificates.server.cert

    def mend(self, server: Server) -> None:
        if self.path(server).read_bytes() != self._right[server.name]:
            self.path(server).write_bytes(self._right[server.name])
            if self._which == "server":
                server.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.parts.servers:
            self.mend(server)
