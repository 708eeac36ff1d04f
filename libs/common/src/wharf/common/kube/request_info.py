"""Verb and object of a request, read as kube-apiserver reads them.

A gateway decides by what the upstream will see, or its rules and limits can be walked around. Therefore: the path is
decoded once, as Go's net/url does it, and split at every slash, decoded ones included; repeated slashes make empty
segments; nothing is cleaned or folded. What this module and the upstream could read differently is refused (BadTarget):
control bytes, spaces, `#`, broken escapes, absolute-form targets, and the segments `.` and `..`, which kube-apiserver
takes as names but others on the way would resolve. Behind a `proxy` subresource dots are the backend's own.
Bytes that are no UTF-8 read as U+FFFD here: no object has such a name.

Source: k8s.io/apiserver 1.36, pkg/endpoints/request, RequestInfoFactory; golang net/url. Pure; runs for each request.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from wharf.common.kube.request_shape import RequestInfo
from wharf.common.kube.selectors import BadSelector, check_labels, exact_match

_CACHED_MAX: Final = 8192  # targets; with the bound below at most some 12 MB
_CACHED_BYTES_MAX: Final = 512  # of a target: longer ones rarely come twice
_REFUSED: Final = bytes([*range(0x21), *b"#\x7f"])
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]{1,19})")
_INT64: Final = range(-(2**63), 2**63)
_VERBS: Final = {
    b"GET": "get",
    b"HEAD": "get",
    b"POST": "create",
    b"PUT": "update",
    b"PATCH": "patch",
    b"DELETE": "delete",
}
_NAMESPACE_SUBRESOURCES: Final = ("status", "finalize")
_SELECTING: Final = ("list", "watch", "deletecollection")
_DOTS: Final = (".", "..")


class BadTarget(ValueError):
    """A request target that is refused: the upstream, or something on the way, might read it differently."""


def parse_request_info(method: bytes, target: bytes) -> RequestInfo:
    """What kube-apiserver understands of a request line: (b"GET", b"/api/v1/pods?watch=1") → watch of pods.

    Equal to its RequestInfoFactory for every target that is not refused with BadTarget.
    """
    if len(target) <= _CACHED_BYTES_MAX and len(method) <= len(b"OPTIONS"):
        return _cached(method, target)
    return _parse(method, target)


def _parse(method: bytes, target: bytes) -> RequestInfo:
    raw_path, _, query = target.partition(b"?")
    path = _path(method, target, raw_path)
    parts = path.strip("/").split("/")
    if len(parts) < 3 or not (parts[0] == "api" or (parts[0] == "apis" and len(parts) > 3)):
        _refuse_dots(path, parts)
        prefix = parts[0] if len(parts) == 3 and parts[0] == "apis" else ""
        return RequestInfo(False, path, method.decode("latin-1").lower(), prefix)
    prefix, group = parts[0], ""
    at = 1
    if prefix == "apis":
        group, at = parts[1], 2
    version = parts[at]
    return _resource(method, path, query, (prefix, group, version), parts[at + 1 :])


_cached = lru_cache(_CACHED_MAX)(_parse)


def _path(method: bytes, target: bytes, raw_path: bytes) -> str:
    """The decoded path."""
    if len(target.translate(None, _REFUSED)) != len(target):
        raise BadTarget("the target has a byte that may not stand in one")
    if not raw_path.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise BadTarget("the target does not begin with a slash")
    if b"%" in raw_path:
        if _BROKEN_ESCAPE.search(raw_path):
            raise BadTarget("the path has a broken escape")
        raw_path = unquote_to_bytes(raw_path)
    return raw_path.decode("utf-8", "replace")


def _refuse_dots(path: str, parts: list[str]) -> None:
    if "/." in path and any(part in _DOTS for part in parts):
        raise BadTarget("the path has a segment of dots")


def _resource(method: bytes, path: str, query: bytes, api: tuple[str, str, str], parts: list[str]) -> RequestInfo:
    verb = _VERBS.get(method, "")
    by_path = parts[0] in ("watch", "proxy")
    if by_path:
        if len(parts) < 2:
            raise BadTarget(f"a {parts[0]} of nothing")
        verb, *parts = parts
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    if "/." in path:
        is_proxy = verb == "proxy" or (len(parts) > 2 and parts[2] == "proxy")
        _refuse_dots(path, [*api, namespace, *parts[: 2 if is_proxy else None]])
    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 and verb != "proxy" else ""
    parameters = None
    if not name:
        if verb == "get":
            parameters = query_parameters(query)
            verb, name = _list_or_watch(parameters)
        elif verb == "delete":
            verb = "deletecollection"
    labels = fields = ""
    if query and not by_path and verb in _SELECTING:
        parameters = query_parameters(query) if parameters is None else parameters
        labels, fields = parameters.get(b"labelSelector", ""), parameters.get(b"fieldSelector", "")
    prefix, group, version = api
    return RequestInfo(
        True, path, verb, prefix, group, version, namespace, resource, subresource, name, tuple(parts), labels, fields
    )


def _list_or_watch(parameters: dict[bytes, str]) -> tuple[str, str]:
    """(verb, name) of a read that names nothing in its path."""
    if not parameters:
        return "list", ""
    watch = parameters.get(b"watch")
    try:
        for number in (b"limit", b"timeoutSeconds"):
            if number in parameters and parse_int64(parameters[number]) is None:
                raise BadSelector("not an integer of 64 bits")
        fields = parameters.get(b"fieldSelector")
        name = (fields and exact_match(fields, "metadata.name")) or ""
        if name or not (watch or "").isascii():
            check_labels(parameters.get(b"labelSelector", ""))
    except BadSelector:  # one part that cannot be read, and all of them are forgotten but the wish to watch
        name, is_false = "", watch is not None and watch.lower() in ("0", "false")
    else:
        is_false = watch is not None and watch.casefold() in ("0", "false")
    if name in _DOTS or "/" in name or "%" in name:
        name = ""
    return ("list" if watch is None or is_false else "watch"), name


def parse_int64(text: str) -> int | None:
    """As Go's strconv.ParseInt with base 10 and 64 bits; None for what that refuses."""
    parts = _INTEGER.fullmatch(text)
    if parts is None:
        return None
    number = int(parts[1] + parts[2])
    return number if number in _INT64 else None


def decode_pair(pair: bytes) -> tuple[bytes, bytes] | None:
    """One part of a query (`name=value`) as Go's net/url decodes it; None for what it leaves out."""
    if not pair or b";" in pair:
        return None
    if b"+" in pair:
        pair = pair.replace(b"+", b" ")
    name, _, value = pair.partition(b"=")
    if b"%" not in pair:
        return name, value
    if _BROKEN_ESCAPE.search(pair):
        return None
    return unquote_to_bytes(name), unquote_to_bytes(value)


def query_parameters(query: bytes) -> dict[bytes, str]:
    """First values by name, decoded; pairs that Go's parser cannot read are left out, as it does."""
    found: dict[bytes, str] = {}
    for part in query.split(b"&"):
        pair = decode_pair(part)
        if pair is not None and pair[0] not in found:
            found[pair[0]] = pair[1].decode("utf-8", "replace")
    return found
