"""Requests whose answer is another server's: streams into pods and proxied ones. Pure."""

from __future__ import annotations

from typing import Final

from wharf.common.kube.request_shape import RequestInfo

STREAMS: Final = frozenset(("attach", "exec", "portforward", "proxy"))  # subresources opened by GET or POST alike
RELAYED: Final = STREAMS | {"log"}  # kube-apiserver hands on what a kubelet, a pod or a service answers


def effective_verbs(verb: str, subresource: str) -> tuple[str, ...]:
    """The verbs a rule may name a request by: a stream is opened by get (WebSocket) as well as by create (SPDY)."""
    if subresource not in STREAMS:
        return (verb,)
    return tuple(dict.fromkeys((verb, "get", "create")))


def relayed(info: RequestInfo) -> bool:
    """Whether kube-apiserver only passes this request on, to a kubelet, pod or service."""
    return info.subresource in RELAYED or info.verb == "proxy"
