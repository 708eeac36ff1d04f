"""One connection to PostgreSQL, made when it is needed and dropped when in doubt, and what its errors mean.

A question that takes too long is never cancelled on the server: a cancelled wait for synchronous replication leaves a
transaction that is committed there and nowhere else. The connection is dropped instead, and whoever asked has to find
out.

Invariant: no text that leaves here holds a password.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import asyncpg
from wharf.brain.engine.base import EngineError, EngineFull
from wharf.brain.engine.url import each_host

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 5.0
HEAD_START = 0.25  # seconds of one host before the next
LOCK_MS = 4000  # how long a statement waits for another one's row before it gives up, unharmed
SETTINGS = {
    "application_name": "wharf-brain",
    "client_connection_check_interval": "2000",  # ms: who waits for a lock notices that nobody waits for him
    "default_toast_compression": "lz4",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
    "lock_timeout": str(LOCK_MS),
    "statement_timeout": "0",  # it would cancel, see above
    "tcp_keepalives_count": "3",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "3",
}
APPLY_SETTINGS = """
    SELECT set_config(mine.name, mine.value, false)
    FROM unnest($1::text[], $2::text[]) AS mine (name, value) JOIN pg_settings AS known ON known.name = mine.name
"""
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
AGAIN = frozenset({"40001", "40P01"})  # rolled back because of another transaction
DISK_FULL = "53100"
NO_ENTRY = frozenset({"28000", "28P01"})
FINAL = frozenset({"FATAL", "PANIC"})
IN_DOUBT = re.compile(r"08...|57...|53[^1]..|25006|40003|55P03")
"""Connection lost, shutdown, no connections or memory, read-only (a standby), in doubt by its own word, lock wait."""


class Rows(Protocol):
    """What is read of a row: a value for each name."""

    def __getitem__(self, name: str | int) -> Any: ...


class Cursor(Protocol):
    async def fetch(self, n: int) -> Sequence[Rows]: ...


class Connection(Protocol):
    """What is used of asyncpg's connection."""

    async def fetch(self, query: str, *args: object) -> Sequence[Rows]: ...

    async def fetchrow(self, query: str, *args: object) -> Rows | None: ...

    async def execute(self, query: str, *args: object) -> str: ...

    async def cursor(self, query: str, *args: object) -> Cursor: ...

    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Any: ...

    def add_log_listener(self, listener: Callable[..., None]) -> None: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    def close(self, *, timeout: float) -> Awaitable[None]: ...


class InDoubt(EngineError):
    """The server did not say what became of the question, or cannot be reached."""


class RolledBack(EngineError):
    """Another transaction was in the way; nothing was written, and asking again is right."""


class Link:
    """For one task at a time. `url`: postgresql://user:password@host,host/database?sslmode=…, as libpq reads it."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._url, self._patience = url, connect_seconds
        self.shown = shown(url)
        self.warned = False  # the server has warned since this was last set to False
        self._connection: Connection | None = None
        self._first = 0  # host to try first, counted round and round
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def call(self, work: Callable[[Connection], Awaitable[T]], seconds: float) -> T:
        """What `work` makes of the connection; dropped after `seconds`.

        InDoubt, RolledBack, EngineFull; any other EngineError says what is wrong.
        """
        connection = await self._connected()
        self._allow(connection, seconds)
        try:
            return await work(connection)
        except FAILURES as error:
            meaning = self._meaning(error)
            if connection.is_closed() or getattr(error, "severity_en", None) in FINAL:
                meaning = InDoubt(str(meaning))  # it went down over the question, whatever it says about it
            if isinstance(meaning, InDoubt):
                self.drop()
            raise meaning from None  # the original may quote what it was given
        except BaseException:
            self.drop()  # it may be in the middle of something
            raise
        finally:
            self._stop_timer()

    def more_time(self, seconds: float) -> None:
        """The work under way has made progress: it may take `seconds` from now."""
        if self._connection is not None:
            self._allow(self._connection, seconds)

    async def fetchrow(self, seconds: float, query: str, *arguments: object) -> Rows | None:
        """The first row of one statement."""
        return await self.call(lambda connection: connection.fetchrow(query, *arguments), seconds)

    def drop(self) -> None:
        """Cut the connection; a question under way ends with InDoubt, and the next one connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._first += 1  # another server may have become the one that takes writes
            connection.terminate()

    @property
    def hosts(self) -> int:
        return len(each_host(self._url))

    def shut(self) -> None:
        """`drop`, and never connect again."""
        self._closed = True
        self.drop()

    async def close(self) -> None:
        """Say goodbye; nothing may be under way."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=1.0)
            except FAILURES:
                connection.terminate()

    async def _connected(self) -> Connection:
        if self._closed:
            raise InDoubt("the engine is closed")
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        try:
            connection = await self._any_host()
        except FAILURES as error:
            raise InDoubt(f"cannot connect: {self._meaning(error)}") from None  # nothing was asked yet
        if self._closed:
            connection.terminate()
            raise InDoubt("the engine is closed")
        self._connection = connection
        connection.add_log_listener(self._on_message)
        self._allow(connection, self._patience)
        try:
            await connection.fetch(DURABLE)
            await connection.fetch(APPLY_SETTINGS, list(SETTINGS), list(SETTINGS.values()))
        except FAILURES as error:
            meaning = self._meaning(error)
            if isinstance(meaning, InDoubt) or connection.is_closed():
                self.drop()
                raise InDoubt(f"cannot connect: {meaning}") from None
            log.info("a setting is not taken: %s", meaning)
        finally:
            self._stop_timer()
        return connection

    async def _any_host(self) -> Connection:
        """The first that takes writes; each has a short while before the next is tried beside it."""
        waiting = deque(each_host(self._url))
        waiting.rotate(-self._first)
        trying: set[asyncio.Task[Connection]] = set()
        failure: BaseException | None = None
        try:
            while waiting or trying:
                if waiting:
                    trying.add(asyncio.create_task(self._one_host(waiting.popleft())))
                over, trying = await asyncio.wait(
                    trying, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in over:
                    error = task.exception()
                    if error is None:
                        return task.result()
                    if failure is None or isinstance(failure, asyncpg.TargetServerAttributeNotMatched):
                        failure = error
        finally:
            for task in trying:
                task.cancel()
            for late in await asyncio.gather(*trying, return_exceptions=True):
                if not isinstance(late, BaseException):
                    late.terminate()
        raise failure or OSError("the URL names no host")

    async def _one_host(self, url: str) -> Connection:
        connection: Connection = await asyncpg.connect(
            url,
            timeout=self._patience,
            max_cached_statement_lifetime=0,
            target_session_attrs=None if "target_session_attrs" in url else "read-write",
        )
        return connection

    def _allow(self, connection: Connection, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_message(self, _: object, message: Any) -> None:
        if message.severity_en == "WARNING" or message.severity == "WARNING":
            self.warned = True
            log.warning("%s warns: %s", self.shown, message.message)

    def _meaning(self, error: BaseException) -> EngineError:
        state = getattr(error, "sqlstate", None)
        text = f"{self.shown}: {self._clean(str(error) or type(error).__name__)}"
        if isinstance(error, ssl.SSLError):
            return InDoubt(f"{text} (TLS; see sslmode, sslrootcert, sslcert and sslkey in the engine's URL)")
        if state is None or IN_DOUBT.fullmatch(state):
            return InDoubt(text)
        if state in AGAIN:
            return RolledBack(text)
        if state == DISK_FULL:
            return EngineFull(f"{text}: nothing was written; free disk space at the database")
        hint = "; see user and password in the engine's URL" if state in NO_ENTRY else ""
        return EngineError(f"{text} (SQLSTATE {state}{hint})")

    def _clean(self, text: str) -> str:
        for secret in _secrets(self._url):
            text = text.replace(secret, "***")
        return text


@asynccontextmanager
async def one_state(connection: Connection) -> AsyncIterator[None]:
    """Everything read inside is of one committed state."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield


def shown(url: str) -> str:
    """The URL without anything secret: hosts and database."""
    parts = urlsplit(url)
    return f"PostgreSQL at {parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


def _secrets(url: str) -> list[str]:
    parts = urlsplit(url)
    found = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    found += re.findall(r"(?:^|&)(?:ssl)?password=([^&]*)", parts.query)
    return [form for secret in found if secret for form in (secret, unquote(secret))]
