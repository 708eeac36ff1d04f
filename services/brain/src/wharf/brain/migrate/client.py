"""Calls to an etcd or a brain: endpoints in turn, TLS, tokens, and another try when nobody answers.

Only calls that may be repeated go through here: reads, and writes that say the same when said twice. What cannot be
helped ends in `MigrationFailed` with words for whoever typed the command; passwords and tokens are in none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from wharf.brain.api.pb import rpc
from wharf.brain.migrate.shapes import MigrationFailed
from wharf.common.parsers import Url

R = TypeVar("R", bound=Message)

CALL_SECONDS: Final = 60.0
PATIENCE: Final = 60.0  # how long nobody may answer before that is an error
RETRY_DELAY: Final = 0.5
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_AGAIN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_STALE_TOKEN: Final = ("invalid auth token", "auth: revision in header is old")


class Compacted(MigrationFailed):
    """The store no longer has the revision that was asked for."""


class LeaseThere(MigrationFailed):
    """A lease with that id is there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a store. All endpoints are of one scheme."""

    endpoints: tuple[Url, ...]
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password_file: Path | None = None

    def __str__(self) -> str:
        return ",".join(str(url) for url in self.endpoints)


class Client:
    """One store. Use it inside a running loop and close it there."""

    def __init__(self, access: Access, patience: float = PATIENCE) -> None:
        self.access = access
        self.turn = 0  # which endpoint's turn it is
        self._patience = patience
        self._channels: dict[int, grpc.aio.Channel] = {}  # by endpoint; they connect again by themselves
        self._token = ""

    async def aclose(self) -> None:
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    async def call(self, method: str, request: Message, response: type[R], patience: float | None = None) -> R:
        """One unary call, tried again at the next endpoint while nobody answers, for `patience` seconds. Compacted,
        MigrationFailed.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + (self._patience if patience is None else patience)
        while True:
            turn = self.turn
            try:
                multi = (await self.channel()).unary_unary(
                    method,
                    request_serializer=type(request).SerializeToString,
                    response_deserializer=response.FromString,
                )
                answer: R = await multi(request, timeout=CALL_SECONDS, metadata=self.metadata())
            except grpc.aio.AioRpcError as error:
                if not self.may_retry(error) or loop.time() >= give_up:
                    raise self.failure(error) from error
            else:
                return answer
            self.rotate(turn)
            await asyncio.sleep(RETRY_DELAY)

    async def channel(self) -> grpc.aio.Channel:
        """The connection to the endpoint whose turn it is, logged in."""
        at = self.turn % len(self.access.endpoints)
        channel = self._channels.get(at)
        if channel is None:
            channel = self._channels[at] = self._dial(self.access.endpoints[at])
        if self.access.user and not self._token:
            self._token = await self._log_in(channel)
        return channel

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()

    def rotate(self, turn: int) -> None:
        """Another endpoint and another login from now on, if the turn still is `turn`: many calls may fail at once."""
        if turn == self.turn:
            self.turn += 1
            self._token = ""

    def may_retry(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether another try may go better; what a login refuses may not."""
        details = error.details() or ""
        return error.code() in _AGAIN or (bool(self._token) and any(text in details for text in _STALE_TOKEN))

    def failure(self, error: grpc.aio.AioRpcError) -> MigrationFailed:
        """`error` as a sentence that says what to do."""
        details, code = error.details() or "", error.code()
        where = str(self.access)
        if "has been compacted" in details:
            return Compacted(f"{where}: {details}")
        if "lease already exists" in details:
            return LeaseThere(f"{where}: {details}")
        return MigrationFailed(f"{where}: {details or code.name}{_advice(code, details, self.access)}")

    def _dial(self, url: Url) -> grpc.aio.Channel:
        if url.scheme == "http":
            return grpc.aio.insecure_channel(url.authority, _OPTIONS)
        access = self.access
        ca, key, cert = (path.read_bytes() if path else None for path in (access.cacert, access.key, access.cert))
        return grpc.aio.secure_channel(url.authority, grpc.ssl_channel_credentials(ca, key, cert), _OPTIONS)

    async def _log_in(self, channel: grpc.aio.Channel) -> str:
        file = self.access.password_file
        password = file.read_text(encoding="utf-8").rstrip("\r\n") if file else ""
        log_in = channel.unary_unary(
            "/etcdserverpb.Auth/Authenticate",
            request_serializer=rpc.AuthenticateRequest.SerializeToString,
            response_deserializer=rpc.AuthenticateResponse.FromString,
        )
        answer = await log_in(rpc.AuthenticateRequest(name=self.access.user, password=password), timeout=CALL_SECONDS)
        return str(answer.token)


Stream = grpc.aio.StreamStreamCall[Any, Any]
OnTrouble = Callable[[str], None]


def _advice(code: grpc.StatusCode, details: str, access: Access) -> str:
    """What to do about a refusal, as the rest of the line."""
    if "user name is empty" in details:
        return ": it wants a login; give --user and --password-file of a user with the root role"
    if code is grpc.StatusCode.PERMISSION_DENIED or "permission denied" in details:
        return ": the user may not do this; a migration needs the root role"
    if "database space exceeded" in details:
        return ": the target is full; raise its quota, compact and defragment it, disarm its alarm, then begin anew"
    if "request is too large" in details or "larger than max" in details:
        return ": a value is larger than the target takes; raise its --max-request-bytes"
    if code in _AGAIN:
        if access.endpoints[0].scheme == "https":
            return ": is it running, and are --cacert, --cert and --key those it wants?"
        return ": is it running, and does it speak TLS (then the endpoint begins with https://)?"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ": it does not speak etcd's v3 API"
    return ""
