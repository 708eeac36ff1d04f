"""Which of a few media types a client wants: the Accept header, read as kube-apiserver reads it.

Only for what wharf writes itself; bodies of others pass as they are. A client that accepts none of ours gets the first
of them: an error in an unwanted form still tells more than none. Source: k8s.io/apiserver, pkg/endpoints/handlers/
negotiation; RFC 9110 §12.5.1. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"

_CLAUSES_MAX: Final = 64  # further ones are not looked at


def negotiate(accept: bytes | None, offered: Sequence[str] = (JSON, YAML, PROTOBUF)) -> str:
    """The offered media type that the client likes best, the first offer when it likes none.

    Parameters such as `as=Table` choose among forms of objects, and are passed over.
    """
    if not accept or accept == b"*/*":
        return offered[0]
    for wanted in _by_preference(accept):
        for media_type in offered:
            if _fits(wanted, media_type):
                return media_type
    return offered[0]


def _by_preference(accept: bytes) -> list[str]:
    """Media ranges, best first: by q, then exact ones before wildcards, then as sent; q=0 is left out."""
    ranges: list[tuple[float, int, str]] = []
    for clause in accept.decode("latin-1").split(",", _CLAUSES_MAX)[:_CLAUSES_MAX]:
        media_range, *parameters = (part.strip().lower() for part in clause.split(";"))
        quality = _quality(parameters)
        if media_range and quality > 0:
            ranges.append((-quality, media_range.count("*"), media_range))
    ranges.sort(key=lambda one: one[:2])
    return [media_range for _, _, media_range in ranges]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.rstrip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 1.0
            return quality if 0 <= quality <= 1 else 1.0  # what cannot be read is no preference
    return 1.0


def _fits(wanted: str, media_type: str) -> bool:
    if wanted in (media_type, "*/*"):
        return True
    kind, _, rest = wanted.partition("/")
    return rest == "*" and media_type.startswith(kind + "/")
