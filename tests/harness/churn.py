"""Churn as a few hundred nodes make it: pods' statuses, leases and ConfigMaps, by a few clients that never give up.

Every object carries a number that only counts up by one, so whoever watches sees at once what is lost, doubled or out
of order (tests/cluster/informer does). Invariant: a writer goes on to the next number only when the last one was
acknowledged; whatever failed meanwhile was tried again and is counted.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from harness.api import Answer, Api, Json

_UNREACHABLE = (OSError, http.client.HTTPException)
_MERGE = "application/merge-patch+json"
_PAUSE_AFTER_ERROR = 0.1
_RECREATE_EVERY = 10
_LAST_ANSWER_SECONDS = 90.0


class HasApi(Protocol):
    """A cluster whose apiserver can be talked to."""

    def api(self, index: int = 0) -> Api:
        """A new client."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and where its number is."""

    name: str  # as in the path
    root: str
    create: Callable[[str, int], Json]
    change: Callable[[int], Json]  # the merge patch that sets the number
    number: Callable[[Json], int]
    subresource: str = ""
    recreated: bool = False  # now and then deleted and made again

    def collection(self, namespace: str) -> str:
        """The path of all of them."""
        return f"{self.root}/namespaces/{namespace}/{self.name}"


def _pod(name: str, _: int) -> Json:
    spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "example.test/none:1"}]}
    return {"metadata": {"name": name, "labels": {"app": "churn"}}, "spec": spec}


PODS = Kind(
    name="pods",
    root="/api/v1",
    create=_pod,
    change=lambda number: {"status": {"phase": "Running", "message": str(number)}},
    number=lambda pod: int(pod["status"].get("message", "0")),
    subresource="/status",
)
CONFIG_MAPS = Kind(
    name="configmaps",
    root="/api/v1",
    create=lambda name, number: {"metadata": {"name": name}, "data": {"number": str(number)}},
    change=lambda number: {"data": {"number": str(number)}},
    number=lambda one: int(one["data"]["number"]),
    recreated=True,
)
LEASES = Kind(
    name="leases",
    root="/apis/coordination.k8s.io/v1",
    create=lambda name, number: {"metadata": {"name": name}, "spec": {"holderIdentity": str(number)}},
    change=lambda number: {"spec": {"holderIdentity": str(number)}},
    number=lambda one: int(one["spec"]["holderIdentity"]),
)


@dataclass(slots=True)
class Churned:
    """One object, as its writer knows it."""

    kind: Kind
    name: str
    sent: int = 0
    acknowledged: int = 0


@dataclass
class Churn:
    """Threads that each count up the objects of their share, one after the other."""

    cluster: HasApi
    namespace: str
    objects: list[Churned]
    writers: int = 8
    pause: float = 0.04  # seconds between the writes of one writer: load, not saturation
    failures: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0  # seconds from the first try of a write to its acknowledgement
    acknowledged: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _progress: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _broken: list[BaseException] = field(default_factory=list)

    def make(self) -> None:
        """Create all objects, with number 0."""

        def create(share: Sequence[Churned]) -> None:
            with self.cluster.api() as api:
                for one in share:
                    api.post(one.kind.collection(self.namespace), one.kind.create(one.name, 0))

        with ThreadPoolExecutor(self.writers) as pool:
            list(pool.map(create, self._shares()))

    def start(self) -> None:
        """Set all writers to work."""
        for share in self._shares():
            thread = threading.Thread(target=self._run, args=(share,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait_for(self, more: int, timeout: float = 60.0) -> None:
        """Return when this many further writes were acknowledged."""
        goal = self.acknowledged + more
        with self._progress:
            reached = self._progress.wait_for(lambda: self.acknowledged >= goal or self._broken, timeout)
        assert reached, f"only {self.acknowledged} of {goal} writes were acknowledged in {timeout} s: {self.failures}"
        assert not self._broken, self._broken

    def finish(self) -> None:
        """Return when every writer has its last acknowledgement."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_LAST_ANSWER_SECONDS)
            assert not thread.is_alive(), f"a write was not acknowledged in {_LAST_ANSWER_SECONDS} s: {self.failures}"
        self._threads.clear()
        assert not self._broken, self._broken

    def check(self, kind: Kind) -> dict[str, str]:
        """Every object of a kind holds what was acknowledged last; versions by name. After `finish` only."""
        with self.cluster.api() as api:
            listed = {one["metadata"]["name"]: one for one in api.get(kind.collection(self.namespace))["items"]}
        expected = {one.name: one.acknowledged for one in self.objects if one.kind is kind}
        stored = {name: kind.number(one) for name, one in listed.items() if name in expected}
        assert stored == expected
        return {name: one["metadata"]["resourceVersion"] for name, one in listed.items()}

    def _shares(self) -> list[list[Churned]]:
        return [self.objects[start :: self.writers] for start in range(self.writers)]

    def _run(self, share: Sequence[Churned]) -> None:
        api = self.cluster.api()
        try:
            for one in itertools.cycle(share):
                if self._stop.is_set():
                    return
                self._count_up(api, one)
                self._stop.wait(self.pause)
        except BaseException as error:
            self._broken.append(error)
            with self._progress:
                self._progress.notify_all()
        finally:
            api.close()

    def _count_up(self, api: Api, one: Churned) -> None:
        number = one.sent = one.sent + 1
        collection = one.kind.collection(self.namespace)
        path = f"{collection}/{one.name}"
        began = time.monotonic()
        if one.kind.recreated and number % _RECREATE_EVERY == 0:
            self._insist(lambda: api.ask("DELETE", path), http.HTTPStatus.NOT_FOUND)
            body = one.kind.create(one.name, number)
            self._insist(lambda: api.ask("POST", collection, body), http.HTTPStatus.CONFLICT)
        else:
            change = one.kind.change(number)
            self._insist(lambda: api.ask("PATCH", path + one.kind.subresource, change, _MERGE), None)
        one.acknowledged = number
        with self._progress:
            self.longest = max(self.longest, time.monotonic() - began)
            self.acknowledged += 1
            self._progress.notify_all()

    def _insist(self, ask: Callable[[], Answer], done_before: int | None) -> None:
        """Ask until it is acknowledged. `done_before`: what a repeated request says when an earlier one did land."""
        for attempt in itertools.count():
            try:
                answer = ask()
            except _UNREACHABLE as error:
                failure = type(error).__name__
            else:
                if answer.ok or (attempt and answer.status == done_before):
                    return
                failure = f"{answer.status} {answer.body.get('message', answer.body)}"
            with self._progress:
                self.failures[failure] += 1
            assert attempt * _PAUSE_AFTER_ERROR < _LAST_ANSWER_SECONDS, failure
            time.sleep(_PAUSE_AFTER_ERROR)


@contextmanager
def churn(cluster: HasApi, namespace: str, counts: dict[str, int]) -> Iterator[Churn]:
    """So many objects by the name of their kind, made, then in churn until the end of the block; not checked."""
    kinds = {kind.name: kind for kind in (PODS, CONFIG_MAPS, LEASES)}
    objects = [Churned(kinds[name], f"churn-{number:03}") for name, count in counts.items() for number in range(count)]
    load = Churn(cluster, namespace, objects)
    load.make()
    load.start()
    try:
        yield load
    finally:
        load.finish()
