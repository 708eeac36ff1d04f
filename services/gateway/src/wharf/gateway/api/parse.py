"""Documents into shapes, or all that is wrong with them; and what several clusters may not both claim.

What a document may hold is said in layout.py. Pure but for one look at the installed balancing plugins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from wharf.gateway.api.fields import BAD, Problem, Reading, Unread, json_type, peek, shown, suggestion
from wharf.gateway.api.layout import SPEC
from wharf.gateway.api.layout_names import OBJECT
from wharf.gateway.api.shapes import GROUP, KIND, VERSION, UpstreamCluster

API_VERSION: Final = f"{GROUP}/{VERSION}"
_ENVELOPE: Final = ("apiVersion", "kind", "metadata", "spec", "status")


class Invalid(Exception):
    """A document that is refused, with every problem found in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Conflict:
    """A cluster that claims what another one has."""

    cluster: str
    owner: str
    claim: str  # the hostname or address

    def __str__(self) -> str:
        return f"{self.claim} belongs to UpstreamCluster {self.owner}"


@cache
def known_strategies() -> frozenset[str]:
    """Names of the installed balancing strategies."""
    return frozenset(point.name for point in entry_points(group="wharf.gateway.strategies"))


def parse_cluster(
    document: Mapping[str, Any], *, files: bool = False, strategies: frozenset[str] | None = None
) -> UpstreamCluster:
    """The cluster a document describes; Invalid with all problems otherwise.

    `files`: materials may be files (documents of a directory). `strategies`: names of balancing strategies, the
    installed ones by default.
    """
    reading = Reading(known_strategies() if strategies is None else strategies, files=files)
    _read_envelope(document, reading)
    metadata = _read_metadata(document.get("metadata"), reading)
    spec = SPEC.read(document.get("spec") or {}, "spec", reading)
    if spec is not BAD:
        _check_strategies(spec, reading)
    if reading.problems:
        raise Invalid(reading.problems)
    return UpstreamCluster(**metadata, **spec)


def check_set(clusters: Iterable[UpstreamCluster], running: Iterable[UpstreamCluster] = ()) -> list[Conflict]:
    """Clusters that may not be served because another one has one of their hostnames or addresses.

    The older has it: age is the object's creation. Among objects of the same age the one that has it already, in the
    version that is served (`running`), keeps it; then the name decides. A refused cluster claims nothing.
    """
    ordered = sorted(clusters, key=lambda one: (one.created, one.name))
    claims = {one.name: claims_of(one) for one in ordered}
    held = {claim: before for before in running for claim in claims_of(before) if claim in claims.get(before.name, ())}
    owners: dict[str, str] = {}
    conflicts: list[Conflict] = []
    for cluster in ordered:
        found = len(conflicts)
        for claim in claims[cluster.name]:
            holder = held.get(claim, cluster)
            kept_by = holder.name if holder.created <= cluster.created else cluster.name
            owner = owners.get(claim, kept_by)
            if owner != cluster.name:
                conflicts.append(Conflict(cluster.name, owner, claim))
        if len(conflicts) == found:
            owners.update(dict.fromkeys(claims[cluster.name], cluster.name))
    return conflicts


def claims_of(cluster: UpstreamCluster) -> list[str]:
    """Everything by which a client may mean this cluster."""
    return list(dict.fromkeys((cluster.name, *cluster.hostnames, *map(str, cluster.addresses))))


def _read_envelope(document: Mapping[str, Any], reading: Reading) -> None:
    for name in document:
        if name not in _ENVELOPE:
            reading.refuse(str(name), f"unknown field{suggestion(str(name), _ENVELOPE)}")
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.get(name) != wanted:
            reading.refuse(name, f"must be {wanted}, not {shown(document.get(name))}")
    if "spec" not in document:
        reading.refuse("spec", "is required")


def _read_metadata(metadata: object, reading: Reading) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        reading.refuse("metadata", f"must be an object, not {json_type(metadata)}")
        return {}
    read: dict[str, Any] = {"name": OBJECT.read(metadata.get("name", ""), "metadata.name", reading)}
    if metadata.get("namespace"):
        reading.refuse("metadata.namespace", f"{KIND} objects have no namespace")
    generation = metadata.get("generation", 0)
    read["generation"] = generation if isinstance(generation, int) else 0
    read["uid"] = str(metadata.get("uid") or "")
    created = metadata.get("creationTimestamp")
    read["created"] = created if isinstance(created, str) and re.match(r"\d{4}-", created) else ""
    return read


def _check_strategies(spec: Mapping[str, Any], reading: Reading) -> None:
    try:
        policies = spec.get("policies", ())
    except Unread:
        return
    for index, policy in enumerate(policies):
        name = peek(peek(policy, "balance"), "strategy") if policy is not BAD else None
        if name is not None and name not in reading.strategies:
            known = sorted(reading.strategies)
            hint = suggestion(name, known) or f" (installed: {', '.join(known)})"
            reading.refuse(f"spec.policies[{index}].balance.strategy", f"{name!r} is not an installed strategy{hint}")
