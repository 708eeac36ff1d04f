"""What every source of UpstreamClusters gives: one immutable snapshot after another, never a step back.

A version that cannot be served (it is wrong, its Secret is missing, it claims what another cluster has) does not end
the service of the version before it, nor of the other cluster: they stay, and the problem is reported. Only what was
deleted goes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from wharf.gateway.api.parse import Conflict, check_set
from wharf.gateway.api.shapes import Material, UpstreamCluster
from wharf.gateway.sources.material import Unresolved, resolve

Slices = Mapping[tuple[str, str], tuple[Mapping[str, Any], ...]]  # (namespace, Service) → EndpointSlice documents
Lookup = Callable[[Material], bytes]  # KeyError (with a text) when it is not there


class Reason(Enum):
    """Why a document is refused; the value is the reason of its Accepted condition."""

    UNREADABLE = "Unreadable"  # no YAML
    INVALID = "Invalid"
    MATERIAL = "MaterialUnusable"  # a Secret or file is missing, or not what it should be
    CONFLICT = "Conflict"  # another cluster has its name, or one of its hostnames or addresses, already


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that is not served as it stands."""

    name: str  # the object's; the file's where no name could be read
    reason: Reason
    problems: tuple[str, ...]
    generation: int = 0
    kept: bool = False  # an earlier version of it is served


@dataclass(frozen=True, slots=True)
class ClusterObjects:
    """Everything a source knows at one moment."""

    clusters: tuple[UpstreamCluster, ...] = ()  # by name; every Material has its `pem`
    refused: tuple[Refused, ...] = ()
    slices: Slices = field(default_factory=dict)
    synced: bool = False  # everything has been read once


class Source(Protocol):
    """Calls `on_change(ClusterObjects)`, given when it is made, at every change: first when it is synced."""

    @property
    def current(self) -> ClusterObjects:
        """The last snapshot."""
        ...

    async def run(self) -> None:
        """Reads and watches until cancelled. What is out of reach is tried again; the last snapshot stays."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as read: a cluster, or why it is none."""

    name: str
    cluster: UpstreamCluster | None = None
    problems: tuple[str, ...] = ()
    generation: int = 0
    uid: str = ""
    reason: Reason = Reason.INVALID
    where: str = ""  # file, for messages
    waits: bool = False  # for what it refers to: until then the version before it counts, and nothing is refused


class Assembly:
    """Puts entries and materials together. Remembers the last good version of each cluster; no I/O."""

    def __init__(self) -> None:
        self._good: dict[str, UpstreamCluster] = {}
        self._files: dict[str, str] = {}  # where the document of each name was read

    def put_together(self, entries: Iterable[Entry], lookup: Lookup, slices: Slices) -> ClusterObjects:
        """The snapshot after a change. `entries` are all the documents there are.

        Of several with one name the one in the file that had the name before counts, else the first.
        """
        refused: dict[str, Refused] = {}
        candidates: dict[str, UpstreamCluster] = {}
        by_name: dict[str, list[Entry]] = {}
        for entry in entries:
            by_name.setdefault(entry.name, []).append(entry)
        repeated: list[Refused] = []
        files: dict[str, str] = {}
        for name, found in by_name.items():
            entry = next((one for one in found if one.where == self._files.get(name)), found[0])
            files[name] = entry.where
            self._take(entry, lookup, candidates, refused)
            repeated += (_repeated(one, entry) for one in found if one is not entry)
        self._files = files
        served = self._without_conflicts(candidates, refused)
        self._good = served
        complaints = [*refused.values(), *repeated]
        ordered = tuple(served[name] for name in sorted(served))
        return ClusterObjects(ordered, tuple(sorted(complaints, key=lambda one: one.name)), slices, True)

    def _take(
        self, entry: Entry, lookup: Lookup, candidates: dict[str, UpstreamCluster], refused: dict[str, Refused]
    ) -> None:
        reason, problems = entry.reason, entry.problems
        before = self._good.get(entry.name)
        if entry.waits:
            if before is not None:
                candidates[entry.name] = _renewed(before, lookup)
            return
        if entry.cluster is not None:
            try:
                candidates[entry.name] = resolve(entry.cluster, lookup, self._good.get(entry.name))
            except Unresolved as unresolved:
                reason, problems = Reason.MATERIAL, tuple(f"{_at(entry)}{problem}" for problem in unresolved.problems)
            else:
                return
        if before is not None and before.uid == entry.uid:
            candidates[entry.name] = _renewed(before, lookup)
        refused[entry.name] = Refused(entry.name, reason, problems, entry.generation, entry.name in candidates)

    def _without_conflicts(
        self, candidates: dict[str, UpstreamCluster], refused: dict[str, Refused]
    ) -> dict[str, UpstreamCluster]:
        """Those left after the others have kept what is theirs; a loser falls back to what it was before."""
        served = dict(candidates)
        while conflicts := check_set(served.values(), self._running(served)):
            for name in {conflict.cluster for conflict in conflicts}:
                told = tuple(self._describe(conflict) for conflict in conflicts if conflict.cluster == name)
                now, before = served.pop(name), self._good.get(name)
                falls_back = before is not None and before != now and before.uid == now.uid
                if falls_back and before is not None:
                    served[name] = before
                earlier = refused.get(name)
                refused[name] = Refused(
                    name,
                    earlier.reason if earlier else Reason.CONFLICT,
                    (*(earlier.problems if earlier else ()), *told),
                    now.generation if earlier is None else earlier.generation,
                    falls_back,
                )
        return served

    def _describe(self, conflict: Conflict) -> str:
        claimant, owner = self._files.get(conflict.cluster), self._files.get(conflict.owner)
        return f"{claimant}: {conflict} ({owner})" if claimant and owner else str(conflict)

    def _running(self, served: Mapping[str, UpstreamCluster]) -> Iterable[UpstreamCluster]:
        """The versions served until now of the clusters that are still there."""
        return [one for one in self._good.values() if one.name in served and served[one.name].uid == one.uid]


def _repeated(entry: Entry, counts: Entry) -> Refused:
    where = "the same file" if counts.where == entry.where else counts.where
    problem = f"{_at(entry)}{entry.name} is defined already, in {where}"
    return Refused(entry.name, Reason.CONFLICT, (problem,), kept=True)


def _at(entry: Entry) -> str:
    return f"{entry.where}: " if entry.where else ""


def _renewed(cluster: UpstreamCluster, lookup: Lookup) -> UpstreamCluster:
    """An earlier version with the materials of today, as far as they can be used."""
    try:
        return resolve(cluster, lookup, cluster)
    except Unresolved:
        return cluster
