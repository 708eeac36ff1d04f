"""PostgreSQL 15 for tests: a primary on a fresh data directory, and a synchronous standby on demand.

    with Postgres() as primary, primary.standby() as standby:
        primary.kill()
        standby.promote()          # primary.url_with(standby) finds the new primary

Commits are durable (fsync stays on). initdb refuses root, so a root's server runs as the user `postgres` in a folder
of that user's; everybody else's runs as themselves. Administration goes over the socket in that folder, clients over
TCP with a password.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

from wharf.cli.kube.process import ProcessFailedError

from harness.daemon import LOOPBACK, READY_SECONDS, Certificates, Daemon

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
DATABASE = "wharf"
_STANDBY = "standby"
_USER_OF_ROOT = "postgres"
_AS_OWNER = (
    ["setpriv", f"--reuid={_USER_OF_ROOT}", f"--regid={_USER_OF_ROOT}", "--init-groups"] if os.geteuid() == 0 else []
)
_ASK_SECONDS = 60.0
_ENDINGS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres(Daemon):
    """One server. `.url` is that of the database `wharf`, with user and password."""

    ready_text = "ready to accept"

    def __init__(
        self,
        *,
        user: str = "harbour",
        password: str = "tide",  # noqa: S107 - of a server that lives for one test
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("postgres", None)
        self.user, self.password = user, password
        self.data = self.folder / "data"
        self.certificates = Certificates(self.folder / "pki") if tls else None
        self._settings = dict(settings or {})
        self._databases = itertools.count(1)
        self._primary: Postgres | None = None
        self._upstream_port = 0

    # --- addresses ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return self._url(f"{LOOPBACK}:{self.port}", database)

    def url_at(self, port: int, database: str = DATABASE) -> str:
        """The URL by way of another port (a proxy's)."""
        return self._url(f"{LOOPBACK}:{port}", database)

    def url_with(self, *others: Postgres, ports: Sequence[int] = (), database: str = DATABASE) -> str:
        """A URL of several servers that leads to whichever takes writes; `ports` instead of theirs (proxies')."""
        ports = ports or [one.port for one in (self, *others)]
        return self._url(",".join(f"{LOOPBACK}:{port}" for port in ports), database, "target_session_attrs=read-write")

    def _url(self, hosts: str, database: str, *options: str) -> str:
        words = list(options)
        if self.certificates is not None:
            words += ["sslmode=verify-full", f"sslrootcert={self.certificates.ca}"]
        query = "?" + "&".join(words) if words else ""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{hosts}/{database}{query}"

    # --- life --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        if self.data.exists():
            return
        _give_away(self.folder)
        if self._primary is None:
            self._make_cluster()
        else:
            self._copy(self._primary)
        host = "host" if self.certificates is None else "hostssl"
        rules = ["local all all trust", "local replication all trust"]
        rules += [f"{host} {what} all {LOOPBACK}/32 scram-sha-256" for what in ("all", "replication")]
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "wal_keep_size": "512MB",
            "wal_retrieve_retry_interval": "200ms",
            "lc_messages": "C",
        }
        if self.certificates is not None:
            pki = self.certificates
            settings |= {"ssl": "on", "ssl_cert_file": str(pki.server.cert), "ssl_key_file": str(pki.server.key)}
        if self._primary is not None:
            where = {"host": LOOPBACK, "port": str(self._upstream_port), "application_name": _STANDBY}
            login = {"user": self.user, "password": self.password}
            settings["primary_conninfo"] = " ".join(f"{key}={_quoted(text)}" for key, text in (where | login).items())
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {_quoted(text)}\n" for name, text in (settings | self._settings).items())
        _give_away(self.folder)

    def _make_cluster(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        _give_away(secret)
        words = ["initdb", "-D", str(self.data), "-U", self.user, "--no-sync", "--encoding=UTF8", "--locale=C"]
        _run([*words, f"--pwfile={secret}", "--auth-local=trust", "--auth-host=scram-sha-256"])
        secret.unlink()

    def _copy(self, primary: Postgres) -> None:
        words = ["pg_basebackup", "-h", str(primary.folder), "-p", str(primary.port), "-U", self.user]
        _run([*words, "-D", str(self.data), "--checkpoint=fast", "--no-sync"])
        # The primary waits for its standby; promoted, this server waits for nobody.
        (self.data / "postgresql.auto.conf").write_text("")
        (self.data / "standby.signal").touch()

    def command(self) -> Sequence[str | Path]:
        return [*_AS_OWNER, PROGRAMS / "postgres", "-D", self.data]

    def environment(self) -> Mapping[str, str]:
        return {"HOME": str(self.folder)}  # where it may look for certificates of its own

    def settle(self) -> None:
        if self._primary is not None:
            self._follow(self._primary)
        elif DATABASE not in self.sql("SELECT datname FROM pg_database", database="postgres").split():
            self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")

    def wait_ready(self) -> None:
        super().wait_ready()
        self.process.wait_ready(self._answers, READY_SECONDS)

    def _answers(self) -> bool:
        words = [str(PROGRAMS / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(words, timeout=READY_SECONDS, check=False).returncode == 0

    def stop(self, how: str = "fast") -> None:
        """An end without waiting for clients: `fast` takes leave of them, `immediate` recovers at the next start."""
        self.resume()
        if self.running:
            self.process.send_signal(_ENDINGS[how])
            self.wait_ended()
        self.kill()

    def restart(self, how: str = "fast") -> Self:
        self.stop(how)
        return self.start()

    # --- databases and standbys --------------------------------------------------------------------------------------

    def sql(self, statement: str, database: str = DATABASE) -> str:
        """What the statement answers, as psql prints it without decoration; for administration and for looks inside."""
        words = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port)]
        return _run([*words, "-U", self.user, "-d", database, "-c", statement]).strip()

    def new_database(self) -> str:
        """The name of a new, empty database."""
        name = f"{DATABASE}_{next(self._databases)}"
        self.sql(f"CREATE DATABASE {name}", database="postgres")
        return name

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        return self.url_of(self.new_database())

    def standby(self, *, upstream_port: int = 0) -> Postgres:
        """A streaming standby of this running primary, not started yet. Once it is, no commit is acknowledged here
        before the standby has it on disk. `upstream_port`: reach the primary through a proxy there."""
        other = Postgres(user=self.user, password=self.password, settings=self._settings)
        other.name, other.certificates = _STANDBY, self.certificates
        other._primary, other._upstream_port = self, upstream_port or self.port
        return other

    def _follow(self, primary: Postgres) -> None:
        """Make the primary wait for this standby from now on; a primary that is not running is left alone."""
        if primary.running:
            primary.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{_STANDBY}'", database="postgres")
            primary.sql("SELECT pg_reload_conf()", database="postgres")
            question = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            self.process.wait_ready(lambda: primary.sql(question, database="postgres") == "1", READY_SECONDS)

    def promote(self) -> None:
        """Turn a standby into a primary that takes writes; returns when it does. The old primary goes on if it lives:
        without its standby it acknowledges nothing."""
        assert self.sql("SELECT pg_promote(true, 60)", database="postgres") == "t"
        self._primary = None


def _quoted(text: str) -> str:
    """As configuration files and connection strings take it both."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _run(words: Sequence[str]) -> str:
    """One of PostgreSQL's programs to its end; what it says goes into the failure."""
    argv = [*_AS_OWNER, str(PROGRAMS / words[0]), *words[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_ASK_SECONDS, cwd="/", check=False)
    if done.returncode != 0:
        raise ProcessFailedError(f"{words[0]} ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _give_away(path: Path) -> None:
    """To the user the server runs as."""
    if _AS_OWNER:
        for one in (path, *path.rglob("*")):
            shutil.chown(one, _USER_OF_ROOT, _USER_OF_ROOT)
