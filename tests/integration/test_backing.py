"""The servers the replicated tests stand on do what those tests ask of them: fail in every way, and come back."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable

import pytest
import redis as redis_client
from harness.backing import Nats, Postgres, Redis
from harness.daemon import LOOPBACK, Daemon, state, tree
from harness.postgres import PROGRAMS
from wharf.cli.kube.process import ProcessFailedError


def answers(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def ask(url: str, statement: str = "SELECT 7", seconds: float = 30) -> str:
    """What a client far away gets; its complaint when it fails."""
    words = [str(PROGRAMS / "psql"), "-XqAt", url, "-c", statement]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    return done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize("kind", [Postgres, Redis, Nats])
def test_a_server_dies_and_comes_back_on_its_port(kind: Callable[[], Daemon]) -> None:
    with kind() as server:
        assert answers(server.port)
        members = tree(server.process.pid)
        server.kill()
        assert not server.running
        assert {state(pid) for pid in members} == {"Z"}
        assert not answers(server.port)
        server.start()
        assert answers(server.port)
        server.restart()
        assert answers(server.port)
        folder = server.folder
    assert not folder.exists()


@pytest.mark.parametrize("kind", [Postgres, Redis, Nats])
def test_a_paused_server_is_frozen_whole_and_goes_on(kind: Callable[[], Daemon]) -> None:
    with kind() as server:
        server.pause()
        assert {state(pid) for pid in tree(server.process.pid)} <= {"T", "Z"}  # a dead child waits for its parent
        server.resume()
        assert "T" not in {state(pid) for pid in tree(server.process.pid)}
        server.pause()
    assert not server.running


def test_a_server_that_cannot_start_says_why() -> None:
    with Redis() as first:
        second = Redis()
        second.port = first.port
        with pytest.raises(ProcessFailedError, match="Address already in use"):
            second.start()
        second.close()


def test_postgres_keeps_what_was_committed_whatever_end_it_takes() -> None:
    with Postgres() as server:
        server.sql("CREATE TABLE t (n int)")
        for end in (server.stop, server.kill, lambda: server.stop("immediate")):
            server.sql("INSERT INTO t VALUES (1)")
            end()
            server.start()
        assert server.sql("SELECT count(*) FROM t") == "3"
        assert server.sql("SHOW fsync") == "on"


def test_postgres_makes_databases(postgres: Postgres) -> None:
    urls = {postgres.url, postgres.fresh(), postgres.fresh()}
    assert len(urls) == 3
    assert [ask(url) for url in urls] == ["7", "7", "7"]


def test_postgres_over_tls_only_with_the_password() -> None:
    with Postgres(password="p@ss/w'o\\rd %", tls=True) as server:
        assert ask(server.url) == "7"
        plain = server.url.split("?")[0] + "?sslmode=disable"
        assert "no encryption" in ask(plain)
        wrong = server.url.replace("p%40ss", "q%40ss")
        assert "password authentication failed" in ask(wrong)


@pytest.mark.parametrize("tls", [False, True])
def test_a_promoted_standby_has_every_commit(tls: bool) -> None:
    with Postgres(tls=tls, password="it's \\ here") as primary, primary.standby() as standby:
        both = primary.url_with(standby)
        ask(both, "CREATE TABLE t (n int)")
        ask(both, "INSERT INTO t VALUES (1)")
        assert standby.sql("SELECT pg_is_in_recovery()") == "t"
        primary.kill()
        standby.promote()
        assert ask(both, "INSERT INTO t VALUES (2) RETURNING n") == "2"
        assert standby.sql("SELECT count(*) FROM t") == "2"
        standby.restart()
        assert standby.sql("SELECT count(*) FROM t") == "2"


def test_a_primary_does_not_acknowledge_without_its_standby() -> None:
    with Postgres() as primary, primary.standby() as standby:
        primary.sql("CREATE TABLE t (n int)")
        standby.pause()
        with pytest.raises(subprocess.TimeoutExpired):
            ask(primary.url, "INSERT INTO t VALUES (1)", 1)
        standby.resume()
        assert ask(primary.url, "INSERT INTO t VALUES (2) RETURNING n") == "2"


@pytest.mark.parametrize("persistent", [True, False])
def test_redis_keeps_its_data_when_it_is_to(persistent: bool) -> None:
    with Redis(persistent=persistent) as server:
        for end in (server.stop, server.kill):
            with redis_client.Redis.from_url(server.fresh()) as client:
                client.set("k", "v")
            end()
            server.start()
            with redis_client.Redis.from_url(server.url) as client:
                assert client.get("k") == (b"v" if persistent else None)


def test_redis_over_tls_only_with_the_password() -> None:
    def ping(url: str) -> bool:
        with redis_client.Redis.from_url(url) as client:
            return bool(client.ping())

    with Redis(password="p@ss/w'ord %", tls=True) as server:
        assert ping(server.url)
        with pytest.raises(redis_client.AuthenticationError):
            ping(server.url.replace("p%40ss", "q%40ss"))
        with pytest.raises(redis_client.ConnectionError):
            ping(server.url.split("&")[0])  # no certificate of its own


def test_nats_over_tls() -> None:
    with Nats(user="pilot", password="p@ss", tls=True) as server:
        assert server.certificates is not None
        context = ssl.create_default_context(cafile=server.certificates.ca)
        with socket.create_connection((LOOPBACK, server.port), timeout=30) as plain:
            assert plain.recv(4096).startswith(b"INFO ")
            with pytest.raises(ssl.SSLError), context.wrap_socket(plain, server_hostname=LOOPBACK) as wrapped:
                wrapped.recv(1)  # no certificate of its own
