"""The plain HTTP side of the server: health, version and metrics, on client and metrics URLs alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from wharf.brain.api.health import HealthPages, Page
from wharf.brain.json_gateway.status import refusal
from wharf.common.metrics import CONTENT_TYPE, Registry, merged, render
from wharf.wire.http import HttpExchange, HttpHandler, HttpRequest, HttpResponse, Mount, answer_unserved, plain_error
from wharf.wire.rpc import Code

_REFUSED: Final = "the Host header names a host that --host-whitelist does not allow"


def http_handler(health: HealthPages, registry: Registry) -> HttpHandler:
    """Answers /health, /livez, /readyz, /healthz, /version and /metrics; 404 for the rest."""

    def handle(request: HttpRequest) -> HttpResponse:
        if request.path == "/metrics" and request.method in ("GET", "HEAD"):
            page = Page(200, render(merged(registry.collect())), CONTENT_TYPE)
        else:
            found = health.page(request.method, request.path, request.query)
            if found is None:
                return answer_unserved(request)
            page = found
        headers = {"content-type": page.content_type} | {name.lower(): value for name, value in page.headers.items()}
        return HttpResponse(
            page.status, page.body, tuple((name.encode(), value.encode()) for name, value in headers.items())
        )

    return handle


def allow_hosts(handler: HttpHandler, hosts: Collection[str]) -> HttpHandler:
    """`handler` for requests whose Host is one of `hosts`, 421 for the rest; "*" among them: every Host is allowed."""

    def handle(request: HttpRequest) -> HttpResponse:
        if _allowed(request, hosts):
            return handler(request)
        return plain_error(HTTPStatus.MISDIRECTED_REQUEST, _REFUSED)

    return handle


def mount_for_hosts(mount: Mount, hosts: Collection[str]) -> Mount:
    """As `allow_hosts`, for the mount of the JSON gateway, which answers every refusal as JSON."""

    def handle(exchange: HttpExchange) -> None:
        if _allowed(exchange.request, hosts):
            mount.handler(exchange)
        else:
            exchange.respond(replace(refusal(Code.PERMISSION_DENIED, _REFUSED), status=HTTPStatus.MISDIRECTED_REQUEST))

    return replace(mount, handler=handle)


def _allowed(request: HttpRequest, hosts: Collection[str]) -> bool:
    """Whether the Host of `request` is one of `hosts`, which are lower-case names as the configuration has them.

    Against DNS rebinding (CVE-2018-1099): a page of another site can make a browser send requests here under its own
    name. etcd checks plain HTTP only; here TLS connections are checked too.
    """
    if "*" in hosts:
        return True
    host = next((value for name, value in request.headers if name == b"host"), b"").decode("latin-1").lower()
    return _hostname(host) in hosts


def _hostname(host: str) -> str:
    """The host of a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
