"""UpstreamClusters from the home cluster's API, with the Secrets and EndpointSlices they refer to, watched by name.

Only what is referred to is asked for: a Role may name the very Secrets. What an object says counts in the order in
which the watch tells it, so an older state never replaces a newer one; while the API server is away the last state
stays.

The first snapshot waits until everything that the objects refer to has been read, could not be read, or has kept it
waiting for PATIENCE seconds. Later an object waits for what it refers to by itself: until then its last version is
served, and the other objects take effect at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from wharf.common.kube.client import KubeClient, KubeError
from wharf.common.kube.list_watch import ListWatch, Objects
from wharf.gateway.api.parse import API_VERSION, Invalid, parse_cluster
from wharf.gateway.api.shapes import PLURAL, Material, UpstreamCluster
from wharf.gateway.sources.base import Assembly, ClusterObjects, Entry, Slices
from wharf.gateway.sources.material import describe, find_in, secret_data, secrets_of

CLUSTERS: Final = f"/apis/{API_VERSION}/{PLURAL}"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
PATIENCE: Final = 10.0  # seconds after which an object that refers to what cannot be read is refused
Named = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Need:
    """Objects to be kept up to date: all at a path that the selectors choose."""

    path: str
    labels: str = ""
    fields: str = ""


class Watching(Protocol):
    """What keeps them up to date; a ListWatch."""

    async def run(self) -> None: ...


MakeWatch = Callable[[Need, Callable[[Objects], None], Callable[[KubeError], None]], Watching]


class _Kept:
    """The objects of one need, as last told."""

    def __init__(
        self, need: Need, make: MakeWatch, news: asyncio.Event, tasks: asyncio.TaskGroup, patience: float
    ) -> None:
        self.objects: Objects = {}
        self.problem = ""  # why there are none yet
        self.settled = False  # read once, refused, or overdue
        self._news = news
        self._task = tasks.create_task(make(need, self._on_set, self._on_failure).run())
        self._timer = asyncio.get_running_loop().call_later(patience, self._settle, f"no answer within {patience:g} s")

    def stop(self) -> None:
        """Nothing refers to it any more."""
        self._timer.cancel()
        self._task.cancel()

    def _on_set(self, objects: Objects) -> None:
        self._timer.cancel()
        self.objects, self.problem, self.settled = objects, "", True
        self._news.set()

    def _on_failure(self, error: KubeError) -> None:
        self._settle(str(error))

    def _settle(self, problem: str) -> None:
        """It cannot be read for now."""
        if not self.settled:
            self._timer.cancel()
            self.problem, self.settled = problem, True
            self._news.set()


class KubeSource:
    """A Source (base.py) over the home cluster's API."""

    def __init__(
        self,
        client: KubeClient,
        on_change: Callable[[ClusterObjects], None],
        make_watch: MakeWatch | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.current = ClusterObjects()
        self._client = client
        self._on_change = on_change
        self._make_watch = make_watch or self._list_watch
        self._patience = patience
        self._assembly = Assembly()
        self._kept: dict[Need, _Kept] = {}
        self._read: dict[str, Entry] = {}  # by name, as last parsed

    async def run(self) -> None:
        """Watches until cancelled."""
        news = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                clusters = self._keep(Need(CLUSTERS), news, tasks)
                while True:
                    await news.wait()
                    news.clear()
                    if clusters.problem:
                        continue
                    self._read = dict(self._parse(clusters.objects))
                    self._keep_only(self._needs(), news, tasks)
                    if self.current.synced or all(kept.settled for kept in self._kept.values()):
                        self._publish()
                        self._keep_only(self._needs(), news, tasks)  # what the versions before referred to
        finally:
            for kept in self._kept.values():
                kept.stop()
            self._kept.clear()

    # --- inside
    def _list_watch(
        self, need: Need, on_set: Callable[[Objects], None], on_failure: Callable[[KubeError], None]
    ) -> Watching:
        return ListWatch(self._client, need.path, on_set, labels=need.labels, fields=need.fields, on_failure=on_failure)

    def _keep(self, need: Need, news: asyncio.Event, tasks: asyncio.TaskGroup) -> _Kept:
        if need not in self._kept:
            self._kept[need] = _Kept(need, self._make_watch, news, tasks, self._patience)
        return self._kept[need]

    def _keep_only(self, needs: set[Need], news: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
        for need in [known for known in self._kept if known not in needs]:
            self._kept.pop(need).stop()
        for need in needs:
            self._keep(need, news, tasks)

    def _parse(self, objects: Objects) -> Iterable[tuple[str, Entry]]:
        """A spec is read once per generation: writing the status changes an object too."""
        for (_, name), document in sorted(objects.items()):
            metadata = document.get("metadata", {})
            version = metadata.get("generation", 0), metadata.get("uid", "")
            before = self._read.get(name)
            if before is not None and (before.generation, before.uid) == version and before.generation:
                yield name, before
            else:
                yield name, _entry(document, name, *version)

    def _needs(self) -> set[Need]:
        """What the objects refer to; also the versions served in place of broken ones."""
        needs = {Need(CLUSTERS)}
        read = [entry.cluster for entry in self._read.values() if entry.cluster is not None]
        for cluster in (*read, *(one for one in self.current.clusters if one.name in self._read)):
            needs |= needs_of(cluster)
        return needs

    def _publish(self) -> None:
        entries = [self._entry(entry) for entry in self._read.values()]
        snapshot = self._assembly.put_together(entries, self._lookup, self._slices())
        if snapshot != self.current:
            self.current = snapshot
            self._on_change(snapshot)

    def _entry(self, entry: Entry) -> Entry:
        """An object, marked when it waits for what it refers to."""
        if entry.cluster is None:
            return entry
        kept = (self._kept.get(need) for need in needs_of(entry.cluster))
        waits = any(one is not None and not one.settled for one in kept)
        return replace(entry, waits=True) if waits else entry

    def _slices(self) -> Slices:
        read: Iterable[UpstreamCluster | None] = (entry.cluster for entry in self._read.values())
        services = [one.service for one in (*read, *self.current.clusters) if one is not None and one.service]
        found: dict[Named, tuple[Mapping[str, Any], ...]] = {}
        for service in services:
            kept = self._kept.get(slices_need(service.namespace, service.name))
            if kept is not None:
                found[service.namespace, service.name] = tuple(one for _, one in sorted(kept.objects.items()))
        return found

    def _lookup(self, material: Material) -> bytes:
        secret = material.secret or ("", "")
        kept = self._kept.get(secret_need(*secret))
        if kept is None or kept.problem:
            raise KeyError(f"{describe(material)} cannot be read: {kept.problem if kept else 'it is not asked for'}")
        document = kept.objects.get(secret)
        try:
            return find_in({secret: secret_data(document)} if document is not None else {}, material)
        except ValueError as error:
            raise KeyError(f"{describe(material)}: {error}") from error


def needs_of(cluster: UpstreamCluster) -> set[Need]:
    """What a cluster refers to."""
    needs = {secret_need(*secret) for secret in secrets_of(cluster)}
    if cluster.service is not None:
        needs.add(slices_need(cluster.service.namespace, cluster.service.name))
    return needs


def secret_need(namespace: str, name: str) -> Need:
    """One Secret."""
    return Need(f"/api/v1/namespaces/{namespace}/secrets", fields=f"metadata.name={name}")


def slices_need(namespace: str, name: str) -> Need:
    """The EndpointSlices of one Service."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    return Need(path, labels=f"{SERVICE_LABEL}={name}")


def _entry(document: Mapping[str, Any], name: str, generation: int, uid: str) -> Entry:
    try:
        return Entry(name, parse_cluster(document), (), generation, uid)
    except Invalid as invalid:
        return Entry(name, None, tuple(str(problem) for problem in invalid.problems), generation, uid)
