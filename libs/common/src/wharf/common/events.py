"""Messages between nodes that may be lost: what both sides rely on, and what is kept while the other end is slow. Pure.

Delivery is at most once and in no promised order; whoever needs more numbers the messages and reads what is missing
elsewhere. So nothing here waits or grows: what cannot be sent now is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

OUTBOX_BYTES: Final = 8 << 20  # some seconds of a busy leader; older news is read from the log more cheaply
OUTBOX_MESSAGES: Final = 8192
_BACKOFF: Final = (0.05, 0.1, 0.25, 0.5, 1.0)  # seconds; a bus that is back should be noticed within one
_SCHEMES: Final = {"nats": False, "tls": True}


class Bus(Protocol):
    """Publish and subscribe. For the thread of the event loop."""

    @property
    def connected(self) -> bool:
        """Whether what is published now is likely to arrive, and subscriptions hear."""

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message."""

    def publish(self, subject: str, data: bytes) -> None:
        """Returns at once and never raises; drops the message when it cannot be sent."""

    def subscribe(self, subject: str, callback: Callable[[bytes], None]) -> None:
        """From now on, and after every reconnection; `callback` returns at once."""

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """`callback` is told whenever `connected` changes."""


class Outbox:
    """Messages that wait to be sent, at most so many and so large; the newest are dropped when it is full."""

    __slots__ = ("_messages", "_most_bytes", "_most_messages", "dropped", "size")

    def __init__(self, most_bytes: int = OUTBOX_BYTES, most_messages: int = OUTBOX_MESSAGES) -> None:
        self._messages: deque[tuple[str, bytes]] = deque()
        self._most_bytes, self._most_messages = most_bytes, most_messages
        self.size = 0  # bytes of data
        self.dropped = 0  # messages, ever

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, subject: str, data: bytes) -> bool:
        """False, and counted, when it does not fit."""
        if self.size + len(data) > self._most_bytes or len(self._messages) >= self._most_messages:
            self.dropped += 1
            return False
        self._messages.append((subject, data))
        self.size += len(data)
        return True

    def take(self) -> tuple[str, bytes] | None:
        """The oldest message."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self.size -= len(message[1])
        return message

    def drop_all(self) -> None:
        """Nobody will send them."""
        self.dropped += len(self._messages)
        self._messages.clear()
        self.size = 0


def backoff(attempt: int) -> float:
    """Seconds to wait after `attempt` failures in a row, at least one."""
    return _BACKOFF[min(attempt, len(_BACKOFF)) - 1]


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a bus and how to log in to it."""

    host: str
    port: int
    tls: bool  # never talk to it without
    user: str = ""
    password: str = ""

    @property
    def address(self) -> str:
        """Without the login: fit for logs and as a URL's authority."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_servers(url: str) -> Sequence[Server]:
    """The servers of `nats://USER:PASSWORD@HOST:PORT,HOST:PORT…` (or tls://): scheme and login of one hold for those
    after it that have none. Parts of the login are percent-encoded. ValueError, without the login, for anything else.
    """
    servers: list[Server] = []
    scheme, login = "", ""
    for part in url.split(","):
        here, found, rest = part.strip().rpartition("://")
        scheme = here if found else scheme
        own, at, authority = rest.rpartition("@")
        login = own if at else ("" if found else login)
        servers.append(_server(scheme, login, authority))
    return servers


def _server(scheme: str, login: str, authority: str) -> Server:
    if scheme not in _SCHEMES:
        raise ValueError("a NATS URL starts with nats:// or tls://")
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{authority!r} is not HOST:PORT") from None
    if not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{authority!r} is not HOST:PORT")
    user, _, password = login.partition(":")
    return Server(host, port or 4222, _SCHEMES[scheme], unquote(user), unquote(password))
