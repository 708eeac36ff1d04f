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
    # Watches, streams and profiles have no deadline.
    # Source: k8s.io/apiserver, pkg/server/filters/longrunning.go, with kube-apiserver's verbs and subresources.
    long_running: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.is_resource:
            long_running = self.verb in _LONG_RUNNING_VERBS or self.subresource in _STREAMS
        else:
            long_running = self.verb in _LONG_RUNNING_VERBS or self.path.startswith(_PROFILES)
        object.__setattr__(self, "long_running", long_running)


_LONG_RUNNING_VERBS = ("watch", "proxy")
_PROFILES = "/debug/pprof/"
_STREAMS = frozenset(("attach", "exec", "log", "portforward", "proxy"))
