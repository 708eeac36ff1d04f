"""Protection from lists that are not paged. Pure.

Two means, both by choice of a policy. Costs: a list is charged as many tokens as its last answers were large. Limits:
`limit=` is appended to the query; then the answer may be one page with a `continue` token, which the client must
follow. Clients that page (client-go's pager and reflectors, kubectl) do; one that takes any answer for the whole list
would miss objects, so this suits policies for known clients only.

A limit is appended where it changes how much is read and not what is meant: reads of the newest state (no
resourceVersion) and of one exact state. Left alone are lists that read from the watch cache at any state
(resourceVersion=0, where the server ignores a limit; a version with NotOlderThan, or without a match, which a limit
would turn into an exact one).
Sources: k8s.io/apiserver, pkg/storage/cacher/delegator, ShouldDelegateList; Kubernetes API concepts, resource versions.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from urllib.parse import unquote_to_bytes

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import ListProtection

ENTRIES_MAX: Final = 4096
_WEIGHT: Final = 0.5  # of the newest answer
_PAGING: Final = (b"limit", b"continue")


def is_unpaged(info: RequestInfo, target: bytes) -> bool:
    """Whether this is a list that asks for everything at once."""
    if info.verb != "list" or not info.is_resource or info.name or info.subresource:
        return False
    return not any(name in _PAGING for name, _ in _query(target))


def inject_limit(info: RequestInfo, target: bytes, limit: int) -> bytes | None:
    """The target with `limit=` appended, otherwise byte for byte; None where there is nothing to do."""
    if limit <= 0 or not is_unpaged(info, target):
        return None
    pairs = _query(target)
    version, match = _first(pairs, b"resourceVersion"), _first(pairs, b"resourceVersionMatch")
    newest = not version and not match
    exact = match == b"Exact" and version not in (b"", b"0")
    if not newest and not exact:
        return None
    _, mark, query = target.partition(b"?")
    glue = b"" if mark and (not query or query.endswith(b"&")) else b"&" if mark else b"?"
    return target + glue + b"limit=%d" % limit


class ListCosts:
    """What lists cost: remembers how large answers were, of the `entries_max` lists answered last."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._sizes: OrderedDict[int, float] = OrderedDict()
        self._entries_max = entries_max

    def cost(self, protection: ListProtection, info: RequestInfo) -> float:
        """Tokens for an unpaged list, 1 at least; a list nobody asked for yet costs 1."""
        size = self._sizes.get(_identity(info), 0.0)
        if protection.cost_per_bytes <= 0 or not size:
            return 1.0
        return max(1.0, min(1.0 + size // protection.cost_per_bytes, float(protection.cost_max)))

    def note(self, info: RequestInfo, size: int) -> None:
        """An unpaged list was answered whole with a body of `size` bytes."""
        key = _identity(info)
        before = self._sizes.pop(key, None)
        self._sizes[key] = size if before is None else before + _WEIGHT * (size - before)
        if len(self._sizes) > self._entries_max:
            self._sizes.popitem(last=False)


def _identity(info: RequestInfo) -> int:
    return hash((info.path, info.label_selector, info.field_selector))


def _query(target: bytes) -> list[tuple[bytes, bytes]]:
    """As Go's net/url reads it: what has a semicolon or a wrong escape is left out."""
    pairs = []
    for part in target.partition(b"?")[2].split(b"&"):
        name, _, value = part.partition(b"=")
        if part and b";" not in part and _well_escaped(part):
            pairs.append((_unquote(name), _unquote(value)))
    return pairs


def _first(pairs: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in pairs if key == name), b"")


def _unquote(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text


def _well_escaped(part: bytes) -> bool:
    return all(len(rest) >= 2 and _is_hex(rest[:2]) for rest in part.split(b"%")[1:])


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)
