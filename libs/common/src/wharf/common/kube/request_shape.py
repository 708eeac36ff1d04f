"""What kube-apiserver understands of a request before it looks at the body."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Verb and object of a request. Source: k8s.io/apiserver/pkg/endpoints/request, RequestInfo."""

    is_resource: bool
    path: str  # decoded, without query
    verb: str  # resources: get list watch create update patch delete deletecollection proxy; else the lower-case method
    prefix: str = ""  # "api" or "apis"
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""  # "pods"
    subresource: str = ""  # "log"
    name: str = ""
    parts: tuple[str, ...] = ()  # resource, name, subresource …
    label_selector: str = ""
    field_selector: str = ""
    # Watches and streams, as kube-apiserver tells them: they have no deadline and a class of their own.
    long_running: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        streams = self.verb in ("watch", "proxy") or self.subresource in _STREAMS
        object.__setattr__(self, "long_running", streams)


_STREAMS = frozenset(("attach", "exec", "log", "portforward", "proxy"))
