"""Load with a memory: writers that know what was acknowledged, and an informer that checks the history it sees.

Invariants checked: an acknowledged write is never lost, a write that was never sent is never seen; for each object the
informer sees versions only go up, ADDED only what it did not have, MODIFIED and DELETED only what it had.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.api import Api, ApiError, Json, config_map
from harness.cluster import Cluster

GONE = 410
_UNREACHABLE = (OSError, http.client.HTTPException)
_PAUSE_AFTER_ERROR = 0.1


def config_maps(namespace: str) -> str:
    """The collection all load goes to."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def create_many(cluster: Cluster, namespace: str, objects: Sequence[Json], threads: int = 8) -> None:
    """Create objects through several connections at once."""

    def create(share: Sequence[Json]) -> None:
        api = cluster.api()
        for one in share:
            api.post(config_maps(namespace), one)
        api.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(create, [objects[start::threads] for start in range(threads)]))


@dataclass
class Record:
    """What one writer knows about its object: the last number it sent and the last that was acknowledged."""

    name: str
    sent: int = 0
    acknowledged: int = 0


@dataclass
class Writers:
    """Threads that each count up in an object of their own, and delete and recreate it now and then."""

    cluster: Cluster
    namespace: str
    records: list[Record]
    stop: threading.Event = field(default_factory=threading.Event)
    progress: threading.Condition = field(default_factory=threading.Condition)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """Acknowledged writes of all writers."""
        return sum(record.acknowledged for record in self.records)

    def wait_for(self, more: int, timeout: float = 60.0) -> None:
        """Return when this many further writes were acknowledged."""
        goal = self.acknowledged + more
        with self.progress:
            assert self.progress.wait_for(lambda: self.acknowledged >= goal, timeout), (
                f"only {self.acknowledged} of {goal} writes were acknowledged in {timeout} s"
            )

    def run(self, record: Record) -> None:
        """One writer's life."""
        api = self.cluster.api()
        path = config_maps(self.namespace)
        while not self.stop.is_set():
            number = record.sent = record.sent + 1
            body = config_map(record.name, {"number": str(number)})
            try:
                written = self._write(api, path, record, body)
            except _UNREACHABLE:
                written = False
            if written:
                record.acknowledged = number
                with self.progress:
                    self.progress.notify_all()
            else:
                self.stop.wait(_PAUSE_AFTER_ERROR)  # the apiserver is away or its store is: not a busy loop
        api.close()

    def _write(self, api: Api, path: str, record: Record, body: Json) -> bool:
        answer = api.ask("PUT", f"{path}/{record.name}", body)
        if answer.status == http.HTTPStatus.NOT_FOUND:
            answer = api.ask("POST", path, body)
        return answer.ok

    def start(self) -> None:
        """Set all writers to work."""
        for record in self.records:
            thread = threading.Thread(target=self.run, args=(record,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def finish(self) -> None:
        """Return when every writer has its last answer."""
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a write got no answer in a minute"

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing unsent is there. After `finish` only."""
        with self.cluster.api() as api:
            for record in self.records:
                stored = int(api.get(f"{config_maps(self.namespace)}/{record.name}")["data"]["number"])
                assert record.acknowledged <= stored <= record.sent, (record, stored)


@contextmanager
def writers(cluster: Cluster, namespace: str, count: int = 4) -> Iterator[Writers]:
    """Writers at work; they are stopped at the end of the block, not checked."""
    load = Writers(cluster, namespace, [Record(f"counter-{index}") for index in range(count)])
    load.start()
    try:
        yield load
    finally:
        load.finish()


class Informer:
    """Lists once, watches, reconnects from the last version it saw, lists again only when told it is too late."""

    def __init__(self, cluster: Cluster, path: str, index: int = 0) -> None:
        self.objects: dict[str, Json] = {}
        self.problems: list[str] = []
        self.relists = 0
        self.events = 0
        self._cluster, self._path, self._index = cluster, path, index
        self._version = ""
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Informer:
        with self._cluster.api(self._index) as api:
            self._list(api)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, condition: Callable[[dict[str, Json]], bool], timeout: float = 30.0) -> None:
        """Return when what it has seen fulfils the condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.objects), timeout), (
                f"not seen in {timeout} s; at version {self._version} after {self.events} events: {self.problems[:5]}"
            )

    def _run(self) -> None:
        while not self._stop.is_set():
            api = self._cluster.api(self._index)
            try:
                if not self._version:
                    self._list(api)
                    self.relists += 1
                for event in api.watch(self._path, 2.0, resourceVersion=self._version, allowWatchBookmarks="true"):
                    if self._stop.is_set() or not self._apply(event):
                        break
            except ApiError as refused:
                if refused.answer.status == GONE:
                    self._version = ""
                else:
                    self._stop.wait(_PAUSE_AFTER_ERROR)
            except _UNREACHABLE:
                self._stop.wait(_PAUSE_AFTER_ERROR)
            finally:
                api.close()

    def _list(self, api: Api) -> None:
        listed = api.get(self._path)
        with self._changed:
            self.objects = {one["metadata"]["name"]: one for one in listed["items"]}
            self._version = listed["metadata"]["resourceVersion"]
            self._changed.notify_all()

    def _apply(self, event: dict[str, Any]) -> bool:
        """False ends this watch."""
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            self._version = "" if thing.get("code") == GONE else self._version
            return False
        version = thing["metadata"]["resourceVersion"]
        with self._changed:
            self.events += 1
            if int(version) < int(self._version):
                self.problems.append(f"{kind} at {version} after {self._version}")
            self._version = version
            if kind != "BOOKMARK":
                self._apply_change(kind, thing)
            self._changed.notify_all()
        return True

    def _apply_change(self, kind: str, thing: Json) -> None:
        name, version = thing["metadata"]["name"], int(thing["metadata"]["resourceVersion"])
        known = self.objects.get(name)
        if (kind == "ADDED") == (known is not None):
            self.problems.append(f"{kind} {name} at {version}, known: {known and known['metadata']}")
        if known is not None and version <= int(known["metadata"]["resourceVersion"]):
            self.problems.append(f"{kind} {name} goes back from {known['metadata']['resourceVersion']} to {version}")
        if kind == "DELETED":
            self.objects.pop(name, None)
        else:
            self.objects[name] = thing


@contextmanager
def informer(cluster: Cluster, path: str, index: int = 0) -> Iterator[Informer]:
    """An informer at work; leaving the block stops it. What it found wrong is in `problems`."""
    with Informer(cluster, path, index) as one:
        yield one
