"""The Kubernetes API as plain HTTPS and JSON: for what kubectl hides (status codes, resourceVersion, watch streams).

Invariant: one `Api` belongs to one thread; it keeps a connection and opens a new one when the apiserver closed it.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

Json = dict[str, Any]


class Reachable(Protocol):
    """A control plane, or what stands in front of one."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it serves."""

    def connect(self, url: str | None = None, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """A connection as the admin."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and decoded body."""

    status: int
    body: Json

    @property
    def ok(self) -> bool:
        """2xx."""
        return self.status < http.HTTPStatus.MULTIPLE_CHOICES


class ApiError(AssertionError):
    """An answer that the test did not expect."""

    def __init__(self, method: str, path: str, answer: Answer) -> None:
        super().__init__(f"{method} {path}: {answer.status} {json.dumps(answer.body)[:2000]}")
        self.answer = answer


class Api:
    """A client of one apiserver (or of what stands in front of it), as the admin."""

    def __init__(self, plane: Reachable, index: int = 0) -> None:
        self._plane = plane
        self._url = plane.urls[index]
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Answer:
        """One request; connection errors are the caller's (a request may have been executed)."""
        connection = self._connection = self._connection or self._plane.connect(self._url)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.will_close:
            self.close()
        return Answer(response.status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()})

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, **query: str | int) -> Json:
        """GET that must succeed."""
        return self._must("GET", with_query(path, query))

    def post(self, path: str, body: Json) -> Json:
        """POST that must succeed."""
        return self._must("POST", path, body)

    def put(self, path: str, body: Json) -> Json:
        """PUT that must succeed."""
        return self._must("PUT", path, body)

    def delete(self, path: str, body: Json | None = None) -> Json:
        """DELETE that must succeed."""
        return self._must("DELETE", path, body)

    def _must(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = self.ask(method, path, body)
        if not answer.ok:
            raise ApiError(method, path, answer)
        return answer.body

    def watch(self, path: str, timeout: float = 30.0, **query: str | int) -> Iterator[Json]:
        """Events of a watch until the server ends it, the connection breaks or nothing came for `timeout` seconds."""
        with closing(self._plane.connect(self._url, timeout)) as connection:
            connection.request("GET", with_query(path, {"watch": "true", **query}))
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                body = json.loads(response.read())
                raise ApiError("WATCH", path, Answer(response.status, body))
            try:
                while line := response.readline():
                    yield json.loads(line)
            except (TimeoutError, http.client.HTTPException, ConnectionError):
                return


def with_query(path: str, query: dict[str, str | int]) -> str:
    """A path with its query string."""
    return f"{path}?{urlencode(query)}" if query else path


def config_map(name: str, data: dict[str, str] | None = None, **labels: str) -> Json:
    """The smallest useful object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": data or {},
    }
