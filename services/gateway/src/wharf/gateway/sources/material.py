"""Certificates, keys, CAs and tokens of a cluster: which it has, and filling them in from Secrets or files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from wharf.gateway.api.fields import Problem
from wharf.gateway.api.pem import CHECKS, check_pair
from wharf.gateway.api.shapes import Material, Serving, Upstream, UpstreamCluster

_KINDS: Final = {"certificate": "certificate", "key": "key", "client_ca": "ca", "ca": "ca", "token": "token"}
P = TypeVar("P", Serving, Upstream)
_PARTS: Final = {"serving": ("certificate", "key", "client_ca"), "upstream": ("ca", "certificate", "key", "token")}


class Unresolved(Exception):
    """Materials that are missing, or not what they should be; every one of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


def materials_of(cluster: UpstreamCluster) -> Iterator[tuple[str, str, Material]]:
    """(part, field, material) of everything a cluster uses."""
    for part, names in _PARTS.items():
        for name in names:
            material = getattr(getattr(cluster, part), name)
            if material is not None:
                yield part, name, material


def secrets_of(cluster: UpstreamCluster) -> frozenset[tuple[str, str]]:
    """(namespace, name) of the Secrets a cluster refers to."""
    return frozenset(material.secret for _, _, material in materials_of(cluster) if material.secret is not None)


def files_of(cluster: UpstreamCluster) -> frozenset[str]:
    """Files a cluster refers to, as written."""
    return frozenset(material.file for _, _, material in materials_of(cluster) if material.file)


def resolve(
    cluster: UpstreamCluster, lookup: Callable[[Material], bytes], before: UpstreamCluster | None = None
) -> UpstreamCluster:
    """The cluster with the bytes of all its materials in place, checked; Unresolved otherwise.

    `lookup` finds those that are not inline; its KeyError carries a text. What is as it was in `before`, a resolved
    cluster, is not checked again: a change of one of a thousand clusters costs that one.
    """
    problems: list[Problem] = []
    found: dict[str, dict[str, Material]] = {part: {} for part in _PARTS}
    for part, name, material in materials_of(cluster):
        known = getattr(getattr(before, part), name) if before is not None else None
        try:
            filled = found[part][name] = _filled(material, _KINDS[name], lookup)
            if filled != known:
                CHECKS[_KINDS[name]](filled.pem)
        except KeyError as error:
            problems.append(Problem(_path(part, name), str(error.args[0])))
        except ValueError as error:
            problems.append(Problem(_path(part, name), f"{describe(material)} is not {error}"))
    problems += _unmatched(found, before) if not problems else []
    if problems:
        raise Unresolved(tuple(problems))
    return replace(
        cluster, serving=_with(cluster.serving, found["serving"]), upstream=_with(cluster.upstream, found["upstream"])
    )


def _unmatched(found: Mapping[str, Mapping[str, Material]], before: UpstreamCluster | None) -> Iterator[Problem]:
    """Keys that are not their certificate's."""
    for part, filled in found.items():
        known = getattr(before, part) if before is not None else None
        certificate, key = filled.get("certificate"), filled.get("key")
        if certificate is None or key is None or (known and (known.certificate, known.key) == (certificate, key)):
            continue
        try:
            check_pair(certificate.pem, key.pem)
        except ValueError as error:
            yield Problem(_path(part, "key"), f"{describe(key)} is not {error}")


def secret_data(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The entries of a Secret document; ValueError when data is no object or an entry is not base64."""
    found = {}
    for name in ("data", "stringData"):
        if not isinstance(document.get(name) or {}, Mapping):
            raise ValueError(f"{name} is not an object")
    for key, value in (document.get("data") or {}).items():
        try:
            found[str(key)] = base64.b64decode(str(value), validate=True)
        except binascii.Error as error:
            raise ValueError(f"data[{key}] is not base64") from error
    found.update({str(key): str(value).encode() for key, value in (document.get("stringData") or {}).items()})
    return found


def without_secrets(cluster: UpstreamCluster, known: Container[tuple[str, str]]) -> UpstreamCluster:
    """The cluster without the materials of Secrets that are not among the `known`."""
    gone: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for part, name, material in materials_of(cluster):
        if material.secret is not None and material.secret not in known:
            gone[part][name] = None
    return replace(
        cluster,
        serving=replace(cluster.serving, **gone["serving"]),
        upstream=replace(cluster.upstream, **gone["upstream"]),
    )


def find_in(secrets: Mapping[tuple[str, str], Mapping[str, bytes]], material: Material) -> bytes:
    """The entry of a Secret that a material refers to; KeyError with a text otherwise."""
    if material.secret is None or material.secret not in secrets:
        raise KeyError(f"{describe(material)} does not exist")
    entries = secrets[material.secret]
    if material.secret_key not in entries:
        raise KeyError(f"{describe(material)} has no entry {material.secret_key}")
    return entries[material.secret_key]


def describe(material: Material) -> str:
    """Where a material comes from, for messages."""
    if material.secret is not None:
        return f"Secret {'/'.join(material.secret)}"
    return f"file {material.file}" if material.file else "this"


def _filled(material: Material, what: str, lookup: Callable[[Material], bytes]) -> Material:
    if material.secret is None and not material.file:
        return material
    found = lookup(material)
    return replace(material, pem=found.strip() if what == "token" else found)


def _with(part: P, materials: Mapping[str, Material]) -> P:
    changes: dict[str, Any] = dict(materials)
    return replace(part, **changes)


def _path(part: str, name: str) -> str:
    return f"spec.{part}.{'clientCA' if name == 'client_ca' else name}"
