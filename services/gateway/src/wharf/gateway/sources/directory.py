"""UpstreamClusters from a watched directory: *.yaml, *.yml and *.json files, several documents each.

Besides UpstreamClusters a file may hold Secrets (secretRef finds them) and EndpointSlices (discovery.service finds
them). Files are looked at by `stat`, which is cheap, works on every file system and sees the symlink swap of mounted
ConfigMaps and Secrets. What has just changed is read at the next look, and only if it has not changed again, so that a
file being written is left alone until it is finished. A file that cannot be read as YAML, or is empty, keeps its
clusters as they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from wharf.gateway.api.documents import BYTES_MAX, load_documents
from wharf.gateway.api.parse import Invalid, parse_cluster
from wharf.gateway.api.shapes import Material
from wharf.gateway.sources.base import Assembly, ClusterObjects, Entry, Reason, Refused
from wharf.gateway.sources.files import FileUnusable, document_files, read_file
from wharf.gateway.sources.material import describe, files_of, find_in, secret_data

LOOK_SECONDS: Final = 0.25  # a change is seen at the next look and taken at the one after it
SERVICE_LABEL: Final = "kubernetes.io/service-name"
Named = tuple[str, str]  # namespace, name
Stamp = tuple[int, int, int, int, int]  # device, inode, times of change in nanoseconds, size
Stamps = Mapping[Path, Stamp | None]
log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Documents:
    """What documents hold, by kind."""

    entries: list[Entry] = field(default_factory=list)
    secrets: dict[Named, Mapping[str, bytes]] = field(default_factory=dict)
    slices: dict[Named, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def add(self, other: Documents) -> None:
        self.entries += other.entries
        self.secrets |= other.secrets
        for service, slices in other.slices.items():
            self.slices[service] = (*self.slices.get(service, ()), *slices)


@dataclass(slots=True)
class _File:
    """The last good reading of a file, and what is wrong with it now."""

    found: Documents | None = None
    problem: str = ""


class Folder:
    """The directory, looked at when asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[Path, _File] = {}
        self._materials: frozenset[Path] = frozenset()
        self._seen: Stamps | None = None  # at the last look
        self._taken: Stamps = {}  # when what we have was read
        self._assembly = Assembly()

    def look(self) -> ClusterObjects | None:
        """A new snapshot when something changed and has settled since the last look; else None.

        The first look takes everything as it is. OSError when the directory cannot be listed.
        """
        documents = _stamps(document_files(self._path))
        stamps = documents | _stamps(self._materials)
        first, settled = self._seen is None, stamps == self._seen
        self._seen = stamps
        if not first and (not settled or stamps == self._taken):
            return None
        self._read_changed(documents)
        found = Documents()
        for _, file in sorted(self._files.items(), key=lambda one: one[0]):
            found.add(file.found or Documents())
        self._materials = frozenset(self._path / name for name in _files_of(found.entries))
        self._taken = documents | _stamps(self._materials)  # before they are read: a change in between is seen later
        self._seen = self._taken
        result = self._assembly.put_together(
            found.entries, lambda material: find_material(material, found.secrets, self._path), found.slices
        )
        broken = (self._complaint(path, file) for path, file in sorted(self._files.items()) if file.problem)
        return replace(result, refused=(*result.refused, *broken))

    def _read_changed(self, stamps: Stamps) -> None:
        for path in [known for known in self._files if known not in stamps]:
            del self._files[path]
        for path, stamp in stamps.items():
            if path not in self._files or self._taken.get(path) != stamp:
                self._read(path)

    def _read(self, path: Path) -> None:
        file = self._files.setdefault(path, _File())
        try:
            text = read_file(path, BYTES_MAX).decode()
            file.found, file.problem = sort_documents(load_documents(text), path.name), ""
        except ValueError as error:
            file.problem = f"{path.name}: {error}"

    @staticmethod
    def _complaint(path: Path, file: _File) -> Refused:
        return Refused(path.name, Reason.UNREADABLE, (file.problem,), kept=file.found is not None)


class DirectorySource:
    """A Source (base.py) over a directory."""

    def __init__(
        self, path: Path, on_change: Callable[[ClusterObjects], None], look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._folder = Folder(path)
        self._path = path
        self._on_change = on_change
        self._look_seconds = look_seconds
        self._problem = ""
        self.current = ClusterObjects()

    async def run(self) -> None:
        """Looks at the directory until cancelled. One that cannot be listed is waited for; the last snapshot stays."""
        while True:
            snapshot = await asyncio.to_thread(self._look)  # a slow disk must not stop the traffic
            if snapshot is not None and snapshot != self.current:
                self.current = snapshot
                self._on_change(snapshot)
            await asyncio.sleep(self._look_seconds)

    def _look(self) -> ClusterObjects | None:
        try:
            snapshot = self._folder.look()
        except OSError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.warning("%s cannot be read: %s", self._path, error.strerror)
            return None
        self._problem = ""
        return snapshot


def find_material(material: Material, secrets: Mapping[Named, Mapping[str, bytes]], folder: Path) -> bytes:
    """The bytes a document refers to: of a Secret beside it, or of a file under `folder`; KeyError with a text."""
    if not material.file:
        return find_in(secrets, material)
    try:
        return read_file(folder / material.file, BYTES_MAX)
    except FileUnusable as error:
        raise KeyError(f"{describe(material)} {error}") from error


def sort_documents(documents: Iterable[Mapping[str, Any]], file: str) -> Documents:
    """Documents of one file, by kind; UpstreamClusters read, and refused with all their problems where they are wrong.

    Their `metadata.creationTimestamp` says nothing about a directory, so it is not looked at.
    """
    found = Documents()
    for index, document in enumerate(documents):
        metadata = document.get("metadata")
        named = metadata if isinstance(metadata, Mapping) else {}
        place = (str(named.get("namespace") or "default"), str(named.get("name")))
        if document.get("kind") == "Secret":
            try:
                found.secrets[place] = secret_data(document)
            except ValueError as error:
                found.entries.append(Entry(f"Secret {'/'.join(place)}", None, (f"{file}: {error}",)))
        elif document.get("kind") == "EndpointSlice":
            labels = named.get("labels")
            service = place[0], str(labels.get(SERVICE_LABEL) if isinstance(labels, Mapping) else None)
            found.slices[service] = (*found.slices.get(service, ()), document)
        else:
            name = named.get("name")
            found.entries.append(_entry(document, name if isinstance(name, str) else f"{file}[{index}]", file))
    return found


def _entry(document: Mapping[str, Any], name: str, file: str) -> Entry:
    try:
        cluster = parse_cluster(document, files=True)
    except Invalid as invalid:
        return Entry(name, None, tuple(f"{file}: {problem}" for problem in invalid.problems), where=file)
    return Entry(name, replace(cluster, created=""), generation=cluster.generation, uid=cluster.uid, where=file)


def _files_of(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.cluster is not None:
            yield from files_of(entry.cluster)


def _stamps(paths: Iterable[Path]) -> dict[Path, Stamp | None]:
    """What tells one version of a file from the next; None for a file that is not there. Symlinks are followed."""
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
