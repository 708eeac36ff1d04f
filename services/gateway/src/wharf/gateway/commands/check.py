"""`wharf gateway check [PATH…]`: says what is wrong with UpstreamCluster documents, each alone and all together.

A path is a file or a watched directory. Files that documents refer to are read and checked as the running gateway
does it, relative to the document; Secrets too where they are among the documents. In a directory every Secret must be;
elsewhere the others are listed as not checked.

Exit code 0 when nothing is wrong, 1 when something is, 2 for a path that cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from wharf.gateway.api.parse import Invalid, check_set, parse_cluster
from wharf.gateway.api.shapes import KIND, Material, UpstreamCluster
from wharf.gateway.commands.files import DocumentFile, name_of, read_files
from wharf.gateway.sources.directory import find_material
from wharf.gateway.sources.material import Unresolved, resolve, secret_data, secrets_of, without_secrets

_OTHER_KINDS: Final = ("Secret", "EndpointSlice")


class _Check:
    """What has been read, and what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.clusters: dict[str, tuple[DocumentFile, UpstreamCluster]] = {}
        self.secrets: dict[tuple[str, str], Mapping[str, bytes]] = {}
        self.unchecked: set[tuple[str, str]] = set()  # Secrets that are not among the documents

    def read(self, file: DocumentFile) -> None:
        for document in file.documents:
            kind = document.get("kind")
            if kind == "Secret":
                self._read_secret(file, document)
            elif kind not in _OTHER_KINDS:
                self._read_cluster(file, document)

    def check_materials(self, *, all_secrets: bool) -> None:
        """Certificates, keys, CAs and tokens. `all_secrets`: a Secret that is not among the documents is missing."""
        for file, cluster in self.clusters.values():
            missing = frozenset() if all_secrets else secrets_of(cluster) - self.secrets.keys()
            self.unchecked |= missing

            def find(material: Material, folder: Path = file.folder) -> bytes:
                return find_material(material, self.secrets, folder)

            try:
                resolve(without_secrets(cluster, self.secrets) if missing else cluster, find)
            except Unresolved as unresolved:
                self.problems += [f"{file.label}: {cluster.name}: {problem}" for problem in unresolved.problems]

    def check_claims(self) -> None:
        """What several clusters claim."""
        for conflict in check_set(cluster for _, cluster in self.clusters.values()):
            claimant, owner = (self.clusters[name][0].label for name in (conflict.cluster, conflict.owner))
            self.problems.append(f"{claimant}: {conflict.cluster}: {conflict} ({owner})")

    def _read_cluster(self, file: DocumentFile, document: Mapping[str, Any]) -> None:
        where = f"{file.label}: {name_of(document)}"
        try:
            cluster = parse_cluster(document, files=True)
        except Invalid as invalid:
            self.problems += [f"{where}: {problem}" for problem in invalid.problems]
            return
        if cluster.name in self.clusters:
            self.problems.append(f"{where}: is defined already, in {self.clusters[cluster.name][0].label}")
        else:
            self.clusters[cluster.name] = file, cluster

    def _read_secret(self, file: DocumentFile, document: Mapping[str, Any]) -> None:
        metadata = document.get("metadata")
        named = metadata if isinstance(metadata, Mapping) else {}
        place = str(named.get("namespace") or "default"), str(named.get("name"))
        try:
            self.secrets[place] = secret_data(document)
        except ValueError as error:
            self.problems.append(f"{file.label}: Secret {'/'.join(place)}: {error}")


def claims_lost(directory: Path, name: str) -> list[str]:
    """What the cluster `name` of a watched directory may not serve because another document there claims it."""
    check = _Check()
    for file in read_files([str(directory)], []):
        check.read(file)
    return [
        f"{check.clusters[conflict.owner][0].label}: {conflict.claim} belongs to UpstreamCluster {name}"
        for conflict in check_set(cluster for _, cluster in check.clusters.values())
        if conflict.cluster == name
    ]


def run(argv: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("wharf gateway check", description="Says what is wrong with UpstreamClusters.")
    parser.add_argument(
        "path", nargs="*", help="a directory, or files of YAML or JSON, several documents each; standard input without"
    )
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    unreadable: list[str] = []
    check = _Check()
    for file in read_files(options.path, unreadable):
        check.read(file)
    check.check_materials(all_secrets=any(Path(path).is_dir() for path in options.path))
    check.check_claims()
    if not (check.clusters or check.problems or unreadable):
        check.problems.append(f"there is no {KIND} in {', '.join(options.path) or 'standard input'}")
    for line in unreadable:
        print(f"wharf gateway check: {line}", file=sys.stderr)
    for problem in check.problems:
        print(problem, file=sys.stderr)
    if unreadable:
        return 2
    if check.problems:
        return 1
    names = sorted(check.clusters)
    print(f"{len(names)} {KIND}{'s are' if len(names) > 1 else ' is'} valid: {', '.join(names)}")
    for namespace, name in sorted(check.unchecked):
        print(f"not checked: Secret {namespace}/{name} is not among the documents")
    return 0
