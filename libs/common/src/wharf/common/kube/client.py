"""A small client of kube-apiservers: JSON documents, the few verbs that wharf needs, watches with backpressure.

No schema: documents are what JSON gives. What fails is a `KubeError`: `StatusError` when the apiserver answered and
said no, `Unreachable` when nobody knows. The pool decides about connections, whoever made it about addresses and TLS.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from wharf.common.kube.status import Status, failure, parse_status
from wharf.wire.client import HttpPool, Response, fetch
from wharf.wire.client_shell import RequestFailed
from wharf.wire.web import Failure, Header, Headers, Request

Document = Mapping[str, Any]
_HeaderList = list[Header]
MERGE_PATCH: Final = b"application/merge-patch+json"
APPLY_PATCH: Final = b"application/apply-patch+yaml"
_JSON: Final = b"application/json"
_EVENT_MAX: Final = 16 * 1024 * 1024  # bytes of one watch event: far beyond what a store takes
_WATCH_BEGINS: Final = 30.0  # seconds until the response head of a watch
_OVERTIME: Final = 30.0  # seconds by which an apiserver may end a watch too late
_ERROR_BODY_MAX: Final = 64 * 1024
_BODY_MAX: Final = 256 * 1024 * 1024  # a page of objects of the largest size that a store takes by default
_CREATED_MAX: Final = 4 * 1024 * 1024  # one object, or a review: of these many may be under way to a server gone bad


class KubeError(Exception):
    """A request that did not bring what was asked for."""


class StatusError(KubeError):
    """The apiserver refused."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.code} {status.reason}: {status.message}")
        self.status = status


class Unreachable(KubeError):
    """No whole answer, or none that can be read; whether the request was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, and the version to watch from."""

    items: tuple[Document, ...]
    resource_version: str


class KubeClient:
    """Requests to one apiserver, or to several that are one. `headers` is asked for each request: tokens rotate."""

    def __init__(self, pool: Callable[[], HttpPool], headers: Callable[[], Headers] = tuple, prefix: str = "") -> None:
        self._pool = pool
        self._headers = headers
        self._prefix = prefix

    async def get(self, path: str, *, seconds: float = 10.0) -> Document:
        """One document: `path` like "/api/v1/namespaces/a/secrets/b"."""
        return await self._document(b"GET", path, seconds=seconds)

    async def list(
        self, path: str, *, labels: str = "", fields: str = "", page: int = 500, seconds: float = 30.0
    ) -> Listing:
        """All objects that the selectors choose, read page by page at one version."""
        items: list[Document] = []
        query = {"limit": str(page), "labelSelector": labels, "fieldSelector": fields}
        while True:
            document = await self._document(b"GET", path, query, seconds=seconds)
            items.extend(document.get("items") or ())
            meta = document.get("metadata") or {}
            query["continue"] = meta.get("continue") or ""
            if not query["continue"]:
                return Listing(tuple(items), str(meta.get("resourceVersion") or ""))

    async def create(self, path: str, document: Document, *, seconds: float = 10.0) -> Document:
        """What the apiserver made of a document that was posted to a collection."""
        return await self._document(b"POST", path, body=document, seconds=seconds, most=_CREATED_MAX)

    async def patch_status(
        self, path: str, document: Document, *, apply_as: str = "", seconds: float = 10.0
    ) -> Document:
        """Change an object's status: a merge patch, or the fields of the manager `apply_as` (server-side apply)."""
        query = {"fieldManager": apply_as, "force": "true" if apply_as else ""}
        content_type = APPLY_PATCH if apply_as else MERGE_PATCH
        return await self._document(
            b"PATCH", f"{path}/status", query, document, content_type=content_type, seconds=seconds
        )

    async def watch(
        self, path: str, resource_version: str, *, labels: str = "", fields: str = "", seconds: float = 300.0
    ) -> AsyncGenerator[tuple[str, Document], None]:
        """(type, object) of each event after a version, bookmarks included, until the apiserver ends the watch.

        The apiserver is asked to end it after `seconds`; if it does not, Unreachable ends it _OVERTIME seconds later.
        StatusError 410: the version is too old, list again. Close the iterator (`contextlib.aclosing`) to stop early.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": f"{seconds:.0f}",
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        began = asyncio.get_running_loop().time()
        deadline = began + _WATCH_BEGINS
        try:
            pool = self._pool()
            link = pool.ready() or await pool.connect(deadline)
        except RequestFailed as error:
            raise Unreachable(error.failure.text) from error
        target, authority = self._target(path, query), pool.target.authority
        request = link.request(b"GET", target, authority, self._head(), scheme=pool.target.scheme)
        stream = _Lines(request)
        try:
            async with asyncio.timeout_at(deadline):
                await stream.head()
            if request.status != 200:
                raise StatusError(_status(request.status, await stream.whole(_ERROR_BODY_MAX)))
            deadline = began + seconds + _OVERTIME
            while True:
                async with asyncio.timeout_at(deadline):
                    line = await stream.line()
                if line is None:
                    return
                yield _event(line)
        except TimeoutError as error:
            raise Unreachable("the watch does not begin, or does not end in time") from error
        finally:
            if not request.done:
                request.reset()

    # --- inside
    async def _document(
        self,
        method: bytes,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        *,
        content_type: bytes = _JSON,
        seconds: float,
        most: int = _BODY_MAX,
    ) -> Document:
        headers = self._head()
        payload = b""
        if body is not None:
            headers.append((b"content-type", content_type))
            payload = json.dumps(body, separators=(",", ":")).encode()
        target = self._target(path, query or {})
        try:
            response = await fetch(self._pool(), method, target, headers, payload, timeout=seconds, body_max=most)
        except RequestFailed as error:
            raise Unreachable(error.failure.text) from error
        if not 200 <= response.status < 300:
            raise StatusError(_status(response.status, response.body))
        return _read(response)

    def _head(self) -> _HeaderList:
        return [(b"accept", _JSON), (b"user-agent", b"wharf"), *self._headers()]

    def _target(self, path: str, query: Mapping[str, str]) -> bytes:
        words = urlencode({name: value for name, value in query.items() if value})
        return f"{self._prefix}{path}{'?' if words else ''}{words}".encode()


def _read(response: Response) -> Document:
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise Unreachable("the answer is no JSON") from error
    if not isinstance(document, dict):
        raise Unreachable("the answer is no JSON object")
    return document


def _status(code: int, body: bytes) -> Status:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    told = parse_status(document) if isinstance(document, dict) else None
    return told if told is not None and told.code else failure(code, body[:200].decode("utf-8", "replace"))


def _event(line: bytes) -> tuple[str, Document]:
    try:
        document = json.loads(line)
        kind, found = str(document["type"]), dict(document["object"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreachable("the watch sends what is no event") from error
    if kind == "ERROR":
        raise StatusError(parse_status(found) or failure(500, "a watch ended with an error"))
    return kind, found


class _Lines:
    """A response body as lines. Bytes are taken from the peer as they are consumed, so nothing piles up here."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._parts: deque[bytes] = deque()  # received, not taken
        self._lines: deque[bytes] = deque()
        self._tail: list[bytes] = []  # of a line whose end has not come
        self._tail_size = 0
        self._ended = False
        self._failure: Failure | None = None
        self._news = asyncio.Event()
        request.on_head = self._on_head
        request.on_data = self._on_data
        request.on_end = self._on_end
        request.on_failure = self._on_failure

    def _on_head(self, _status: int, _headers: list[Header]) -> None:
        self._news.set()

    def _on_data(self, data: bytes) -> None:
        self._parts.append(data)
        self._news.set()

    def _on_end(self, _trailers: Headers) -> None:
        self._ended = True
        self._news.set()

    def _on_failure(self, reason: Failure) -> None:
        self._failure = reason
        self._news.set()

    async def head(self) -> None:
        """Wait for the response head."""
        while not self._request.status:
            await self._wait()

    async def line(self) -> bytes | None:
        """The next line that is not empty; None at the end. What comes after the last line end is no line."""
        while not self._lines:
            data = await self._take()
            if not data:
                return None
            first, *others = data.split(b"\n")
            self._tail.append(first)
            self._tail_size += len(first)
            if others:
                lines = (b"".join(self._tail), *others[:-1])
                self._lines.extend(line for line in lines if line.strip())
                self._tail, self._tail_size = [others[-1]], len(others[-1])
            if self._tail_size > _EVENT_MAX:
                raise Unreachable(f"a watch event is longer than {_EVENT_MAX} bytes")
        return self._lines.popleft()

    async def whole(self, most: int) -> bytes:
        """The body, at most some more than so many bytes of it."""
        body = b""
        while len(body) < most and (data := await self._take()):
            body += data
        return body

    async def _take(self) -> bytes:
        """What came since the last time, waiting for it if need be; nothing at the end."""
        while not self._parts:
            if self._ended:
                return b""
            await self._wait()
        data = b"".join(self._parts)
        self._parts.clear()
        self._request.take(len(data))
        return data

    async def _wait(self) -> None:
        if self._failure is not None:
            raise Unreachable(self._failure.text)
        self._news.clear()
        await self._news.wait()
