"""A set of objects kept up to date: listed once, watched from there, listed again only when history is gone.

Invariant: `objects` changes only by a list or by the watch that goes on from it, in the watch's order, so an older
state of an object never replaces a newer one; while the apiserver is away the last state stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from wharf.common.kube.client import Document, KubeClient, KubeError, StatusError, Unreachable

Objects = Mapping[tuple[str, str], Document]  # (namespace, name) → object

log = logging.getLogger("wharf.kube")
_FIRST_DELAY: Final = 0.2  # seconds
_MOST_DELAY: Final = 30.0
_GONE: Final = 410


class ListWatch:
    """Objects at one path. `on_set` is told of each new state, `on_failure` of each failed attempt."""

    def __init__(
        self,
        client: KubeClient,
        path: str,
        on_set: Callable[[Objects], None],
        *,
        labels: str = "",
        fields: str = "",
        on_failure: Callable[[KubeError], None] | None = None,
        first_delay: float = _FIRST_DELAY,
    ) -> None:
        self.synced = asyncio.Event()  # set after the first list
        self.failures = 0  # in a row
        self._client = client
        self._path = path
        self._labels, self._fields = labels, fields
        self._on_set = on_set
        self._on_failure = on_failure
        self._first_delay = first_delay
        self._objects: dict[tuple[str, str], Document] = {}
        self._version = ""  # to watch from; empty: list

    @property
    def objects(self) -> Objects:
        return self._objects

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                began = asyncio.get_running_loop().time()
                await self._watch()
                if asyncio.get_running_loop().time() - began >= 1.0:
                    continue  # its usual end: go on from the last version
                self.failures += 1  # at once: do not spin
            except KubeError as error:
                if isinstance(error, StatusError) and error.status.code == _GONE:
                    self._version = ""
                self.failures += 1
                log.warning("watching %s: %s", self._path, error)
                if self._on_failure is not None:
                    self._on_failure(error)
            await asyncio.sleep(self._delay())

    def _delay(self) -> float:
        """Seconds until the next attempt: doubling, and not all clients at once."""
        most = min(self._first_delay * 2.0 ** min(self.failures - 1, 16), _MOST_DELAY)
        return most * random.uniform(0.5, 1.0)  # noqa: S311 — spreads load, hides nothing

    async def _list(self) -> None:
        listing = await self._client.list(self._path, labels=self._labels, fields=self._fields)
        self._objects = {_key(item): item for item in listing.items}
        self._version = listing.resource_version
        self.failures = 0
        self._on_set(self._objects)
        self.synced.set()

    async def _watch(self) -> None:
        seconds = random.uniform(300.0, 600.0)  # noqa: S311 — watches of many clients end apart
        events = self._client.watch(
            self._path, self._version, labels=self._labels, fields=self._fields, seconds=seconds
        )
        async with contextlib.aclosing(events):
            async for kind, item in events:
                self.failures = 0
                version = _version(item)
                if kind != "BOOKMARK":
                    self._change(kind, item)
                self._version = version

    def _change(self, kind: str, item: Document) -> None:
        objects = dict(self._objects)
        if kind == "DELETED":
            objects.pop(_key(item), None)
        else:
            objects[_key(item)] = item
        self._objects = objects
        self._on_set(objects)


def _key(item: Document) -> tuple[str, str]:
    try:
        meta = item["metadata"]
        return meta.get("namespace", ""), meta["name"]
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreachable("an object without a name") from error


def _version(item: Document) -> str:
    try:
        return str(item["metadata"]["resourceVersion"])
    except (KeyError, TypeError) as error:
        raise Unreachable("an object without a version") from error
