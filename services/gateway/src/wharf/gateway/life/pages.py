"""/healthz, /livez, /readyz and /metrics on the health port, for one process or a supervisor of several. Pure.

A process that answers is alive. Ready means: the configuration has been read once and gives a cluster to serve (only
the home cluster's API may be empty: objects are created there later), every server has been probed once, and the
instance has not been asked to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final, Protocol

from wharf.common.metrics import CONTENT_TYPE, Family, Registry, merged, render
from wharf.wire.http import HttpHandler, HttpRequest, HttpResponse, answer_unserved

_TEXT: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))
_METRICS: Final = ((b"content-type", CONTENT_TYPE.encode()),)


class Instance(Protocol):
    """What serves: this process, or the workers it keeps."""

    @property
    def addresses(self) -> tuple[str, ...]: ...

    def unready(self) -> str:
        """Why clients should ask another instance; empty: they need not."""

    def statuses(self) -> list[bytes]:
        """What each process knows of the servers, JSON."""

    def families(self) -> Iterable[Family]: ...

    async def begin(self) -> None: ...

    async def drain(self) -> None:
        """Stop in good order."""

    def hurry(self) -> None:
        """Cut the waiting of `drain` short."""

    async def close(self) -> None: ...


def http_handler(instance: Instance, registry: Registry) -> HttpHandler:
    """The pages as a handler of the wire's plain HTTP server."""

    def metrics() -> HttpResponse:
        return HttpResponse(200, render(merged([*registry.collect(), *instance.families()])), _METRICS)

    def ready() -> HttpResponse:
        reason = instance.unready()
        return HttpResponse(503, f"not ready: {reason}\n".encode(), _TEXT) if reason else _OK

    pages: dict[str, Callable[[], HttpResponse]] = {
        "/metrics": metrics,
        "/readyz": ready,
        "/livez": lambda: _OK,
        "/healthz": lambda: _OK,
    }

    def handle(request: HttpRequest) -> HttpResponse:
        page = pages.get(request.path)
        if page is None:
            return answer_unserved(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(HTTPStatus.METHOD_NOT_ALLOWED, b"Method Not Allowed\n", (*_TEXT, (b"allow", b"GET")))
        return page()

    return handle


_OK: Final = HttpResponse(200, b"ok\n", _TEXT)
