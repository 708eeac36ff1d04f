"""The plain HTTP side of the server: health, version and metrics, on client and metrics URLs alike."""

from __future__ import annotations

from wharf.brain.api.health import HealthPages, Page
from wharf.common.metrics import CONTENT_TYPE, Registry, merged, render
from wharf.wire.http import HttpHandler, HttpRequest, HttpResponse, answer_unserved


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
