"""What errors of PostgreSQL mean, and that nobody reads a password in them."""

from __future__ import annotations

import asyncio
import socket
import ssl

import asyncpg
import pytest
from wharf.brain.engine.base import EngineError, EngineFull
from wharf.brain.engine.pg_link import InDoubt, Link, RolledBack, shown
from wharf.brain.engine.url import each_host

URL = "postgresql://harbour:t%20ide@a:1,b:2/wharf?sslmode=verify-full&password=other&sslpassword=third"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), InDoubt),
        (asyncpg.AdminShutdownError("bye"), InDoubt),
        (asyncpg.CannotConnectNowError("starting"), InDoubt),
        (asyncpg.TooManyConnectionsError("full house"), InDoubt),
        (asyncpg.OutOfMemoryError("no memory"), InDoubt),
        (asyncpg.ReadOnlySQLTransactionError("a standby"), InDoubt),
        (asyncpg.QueryCanceledError("cancelled"), InDoubt),
        (asyncpg.LockNotAvailableError("waited"), InDoubt),
        (asyncpg.StatementCompletionUnknownError("ambiguous"), InDoubt),
        (asyncpg.InterfaceError("closed"), InDoubt),
        (ConnectionResetError(104, "reset"), InDoubt),
        (ssl.SSLError("bad"), InDoubt),
        (TimeoutError(), InDoubt),
        (asyncpg.SerializationError("again"), RolledBack),
        (asyncpg.DeadlockDetectedError("again"), RolledBack),
        (asyncpg.DiskFullError("no space"), EngineFull),
        (asyncpg.UndefinedTableError("no table"), EngineError),
        (asyncpg.UniqueViolationError("twice"), EngineError),
        (asyncpg.InsufficientPrivilegeError("may not"), EngineError),
    ],
)
def test_errors_mean(error: BaseException, meaning: type[EngineError]) -> None:
    found = Link(URL)._meaning(error)
    assert type(found) is meaning
    assert str(found).startswith("PostgreSQL at a:1,b:2/wharf: ")


def test_passwords_are_taken_out() -> None:
    text = str(Link(URL)._meaning(asyncpg.PostgresError("t ide, t%20ide, other and third are wrong")))
    assert text.count("***") == 4
    assert shown("postgresql://u:secret@h/db?password=x") == "PostgreSQL at h/db"
    assert shown("postgresql:///db") == "PostgreSQL at localhost/db"


def test_each_host_gets_a_url_of_its_own() -> None:
    login, options = "postgresql://u:p%40@", "/db?sslmode=require&target_session_attrs=any"
    assert each_host(f"{login}a:1,b,[::1]:2{options}") == [
        f"{login}{host}{options}" for host in ("a:1", "b", "[::1]:2")
    ]
    assert each_host("postgresql:///db?host=/run") == ["postgresql:///db?host=/run"]


def test_who_cannot_be_reached_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        link = Link(f"postgresql://u:secret@127.0.0.1:{unused.getsockname()[1]}/db")

        async def main() -> None:
            with pytest.raises(InDoubt, match=r"cannot connect: PostgreSQL at 127.0.0.1:\d+/db: ") as refused:
                await link.fetchrow(1.0, "SELECT 1")
            assert "secret" not in str(refused.value)
            link.shut()
            with pytest.raises(InDoubt, match="closed"):
                await link.fetchrow(1.0, "SELECT 1")

        asyncio.run(main())


@pytest.mark.parametrize("option", ["sslmode=perhaps", "sslmode=verify-full&sslrootcert=/nowhere"])
def test_a_wrong_option_is_told_before_anything_is_asked(option: str) -> None:
    async def main() -> None:
        with pytest.raises(EngineError, match="cannot connect"):
            await Link(f"postgresql://u:secret@127.0.0.1:1/db?{option}").fetchrow(1.0, "SELECT 1")

    asyncio.run(main())


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def main() -> None:
        mute = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.1", 0)
        silent: list[asyncio.StreamWriter] = []
        link = Link(f"postgresql://u@127.0.0.1:{mute.sockets[0].getsockname()[1]}/db?sslmode=disable", 0.05)
        with pytest.raises(InDoubt, match="cannot connect"):
            await link.fetchrow(1.0, "SELECT 1")
        for writer in silent:
            writer.close()
            await writer.wait_closed()
        mute.close()
        await mute.wait_closed()

    asyncio.run(main())
