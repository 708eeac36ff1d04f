"""Protection from lists that are not paged. Pure.

Two means, both by choice of a policy. Costs: a list is charged as many tokens as its last answers were large. Limits:
`limit=` is added to the query, or lowered; then the answer may be one page with a `continue` token, which the client
must follow. Clients that page (client-go's pager and reflectors, kubectl) do; one that takes any answer for the whole
list would miss objects, so this suits policies for known clients only.

Whether a list is paged is what the server will do, not what the query says. kube-apiserver takes the first `limit`
only, a limit of 0 or below is none, with resourceVersion=0 it ignores the limit (what every reflector sends), and a
continuation without a limit returns all that is left. A limit above a usual page is as good as none.

A limit is added where it changes how much is read and not what is meant: reads of the newest state (no
resourceVersion), continuations, and reads of one exact state. Left alone are lists that read from the watch cache at
any state (resourceVersion=0; a version with NotOlderThan, or without a match, which a limit would turn into an exact
one). A limit that the server heeds can always be lowered.
Sources: k8s.io/apiserver 1.36, pkg/storage/cacher, ShouldDelegateList and computeListLimit; pkg/storage/etcd3,
GetList; apimachinery, ListOptions; Kubernetes API concepts, resource versions.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from wharf.common.kube.request_info import decode_pair, parse_int64, query_parameters
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import ListProtection

ENTRIES_MAX: Final = 4096
PAGE_MAX: Final = 500  # objects; the page of client-go and kubectl
_WEIGHT: Final = 0.5  # of the newest answer


def page_max(protection: ListProtection) -> int:
    """Objects of the largest page that counts as one."""
    return max(protection.inject_limit, PAGE_MAX)


def is_unpaged(info: RequestInfo, target: bytes, page_max: int = PAGE_MAX) -> bool:
    """Whether the server may put more than a page of `page_max` objects into the answer of this list."""
    if not _is_list(info):
        return False
    heeded = _heeded_limit(query_parameters(target.partition(b"?")[2]))
    return not heeded or heeded > page_max


def inject_limit(info: RequestInfo, target: bytes, limit: int) -> bytes | None:
    """The target with `limit=` added or lowered, otherwise byte for byte; None where there is nothing to do."""
    if limit <= 0 or not _is_list(info):
        return None
    parameters = query_parameters(target.partition(b"?")[2])
    asked = parameters.get(b"limit")
    heeded = _heeded_limit(parameters)
    if 0 < heeded <= max(limit, PAGE_MAX):  # as page_max
        return None
    if not heeded and not _may_be_paged(parameters):
        return None
    if asked is None:
        return _append(target, limit)
    return _replace(target, limit) if parse_int64(asked) is not None else None  # else the server answers 400


class ListCosts:
    """What lists cost: remembers how large answers were, of the `entries_max` lists answered last.

    A list with selectors that nobody asked for yet costs what such lists of the resource weighed when they were new,
    so that inventing selectors is no way around.
    """

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._sizes: OrderedDict[int, float] = OrderedDict()
        self._entries_max = entries_max

    def cost(self, protection: ListProtection, info: RequestInfo) -> float:
        """Tokens for an unpaged list, 1 at least; 1 while nothing is known of such lists."""
        size = self._sizes.get(_identity(info))
        if size is None and _selects(info):
            size = self._sizes.get(_new_of(info))
        if protection.cost_per_bytes <= 0 or not size:
            return 1.0
        return max(1.0, min(1.0 + size // protection.cost_per_bytes, float(protection.cost_max)))

    def note(self, info: RequestInfo, size: int, whole: bool = True) -> None:
        """An unpaged list was answered with a body of `size` bytes. `whole`: it is all that the list holds."""
        key = _identity(info)
        if key not in self._sizes and _selects(info):
            self._put(_new_of(info), size, whole)
        self._put(key, size, whole)

    def _put(self, key: int, size: int, whole: bool) -> None:
        before = self._sizes.pop(key, None)
        if before is None or (not whole and size > before):
            self._sizes[key] = size
        else:
            self._sizes[key] = before + _WEIGHT * (size - before) if whole else before
        if len(self._sizes) > self._entries_max:
            self._sizes.popitem(last=False)


def is_whole(target: bytes) -> bool:
    """Whether the answer to an unpaged list holds every object: no continuation, no limit that the server heeds."""
    parameters = query_parameters(target.partition(b"?")[2])
    return not parameters.get(b"continue") and not _heeded_limit(parameters)


def _is_list(info: RequestInfo) -> bool:
    return info.verb == "list" and info.is_resource and not info.name and not info.subresource


def _heeded_limit(parameters: dict[bytes, str]) -> int:
    """Objects that the server puts into one answer at most; 0: all of them."""
    asked = parameters.get(b"limit")
    if asked is None or parameters.get(b"resourceVersion") == "0":
        return 0
    return max(parse_int64(asked) or 0, 0)


def _may_be_paged(parameters: dict[bytes, str]) -> bool:
    """Whether a limit, where there is none, leaves the meaning of the list as it is."""
    version, match = parameters.get(b"resourceVersion", ""), parameters.get(b"resourceVersionMatch", "")
    newest = not version and not match
    return newest or (match == "Exact" and version not in ("", "0"))


def _identity(info: RequestInfo) -> int:
    """Not the path: the server reads any number of slashes at its end as none."""
    return hash((_new_of(info), info.label_selector, info.field_selector))


def _new_of(info: RequestInfo) -> int:
    """New lists with selectors of a resource, all together."""
    return hash((info.group, info.version, info.namespace, info.resource))


def _selects(info: RequestInfo) -> bool:
    return bool(info.label_selector or info.field_selector)


def _append(target: bytes, limit: int) -> bytes:
    _, mark, query = target.partition(b"?")
    glue = b"" if mark and (not query or query.endswith(b"&")) else b"&" if mark else b"?"
    return target + glue + b"limit=%d" % limit


def _replace(target: bytes, limit: int) -> bytes:
    """Another value for the first limit, which is the one that counts."""
    path, _, query = target.partition(b"?")
    parts = query.split(b"&")
    for at, part in enumerate(parts):
        pair = decode_pair(part)
        if pair is not None and pair[0] == b"limit":
            parts[at] = b"limit=%d" % limit
            break
    return path + b"?" + b"&".join(parts)
