"""Redis, NATS and PostgreSQL for tests: real servers, each in its own folder on its own free port.

    with Redis(password="secret", tls=True) as redis: ...redis.url...

`start stop kill pause resume restart close`, `.url`, `.port`, `.folder`; used as a context manager they are started and
leave nothing behind. PostgreSQL is in `harness.postgres` (it is more than one process and may have a standby).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import redis

from harness.daemon import LOOPBACK, Certificates, Daemon
from harness.postgres import Postgres

__all__ = ["Nats", "Postgres", "Redis"]


class Redis(Daemon):
    """redis-server. With `persistent` every write is on disk before it is answered; without, a restart is a wipe."""

    ready_text = "Ready to accept connections"

    def __init__(
        self, folder: Path | None = None, *, password: str = "", tls: bool = False, persistent: bool = True
    ) -> None:
        super().__init__("redis", folder)
        self.password, self.persistent = password, persistent
        self.certificates = Certificates(self.folder / "pki") if tls else None

    @property
    def url(self) -> str:
        """With password and certificates, as a client needs it."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The URL by way of another port (a proxy's)."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        at = f"{login}{LOOPBACK}:{port}/0"
        if self.certificates is None:
            return f"redis://{at}"
        pki = self.certificates
        return f"rediss://{at}?ssl_ca_certs={pki.ca}&ssl_certfile={pki.client.cert}&ssl_keyfile={pki.client.key}"

    def prepare(self) -> None:
        lines = [f"bind {LOOPBACK}", f"dir {self.folder}", 'save ""', "daemonize no", "protected-mode no"]
        lines += ["appendonly yes", "appendfsync always"] if self.persistent else ["appendonly no"]
        if self.password:
            lines.append(f'requirepass "{self.password}"')
        if self.certificates is None:
            lines.append(f"port {self.port}")
        else:
            pki = self.certificates
            lines += ["port 0", f"tls-port {self.port}", f"tls-ca-cert-file {pki.ca}"]
            lines += [f"tls-cert-file {pki.server.cert}", f"tls-key-file {pki.server.key}"]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str | Path]:
        return ["redis-server", self.folder / "redis.conf"]

    def wipe(self) -> None:
        """Forget everything (FLUSHALL)."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def fresh(self) -> str:
        """The URL, of a server that holds nothing."""
        self.wipe()
        return self.url


class Nats(Daemon):
    """nats-server."""

    ready_text = "Server is ready"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        user: str = "",
        password: str = "",
        tls: bool = False,
        max_payload: int = 1 << 20,
        settings: Sequence[str] = (),
    ) -> None:
        """`settings`: further lines of its configuration."""
        super().__init__("nats", folder)
        self.settings = tuple(settings)
        self.user, self.password, self.max_payload = user, password, max_payload
        self.certificates = Certificates(self.folder / "pki") if tls else None

    @property
    def url(self) -> str:
        """With user and password. The certificates are in `certificates`: NATS has no place for them in a URL."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The URL by way of another port (a proxy's)."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return f"{'nats' if self.certificates is None else 'tls'}://{login}{LOOPBACK}:{port}"

    def prepare(self) -> None:
        lines = [f'listen: "{LOOPBACK}:{self.port}"', f"max_payload: {self.max_payload}", *self.settings]
        if self.user:
            lines.append(f'authorization {{ user: "{self.user}", password: "{self.password}" }}')
        if self.certificates is not None:
            pki = self.certificates
            lines.append(f'tls {{ cert_file: "{pki.server.cert}", key_file: "{pki.server.key}"')
            lines.append(f'  ca_file: "{pki.ca}", verify: true }}')
        (self.folder / "nats.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str | Path]:
        return [Path(sys.prefix) / "bin" / "nats-server", "-c", self.folder / "nats.conf"]
