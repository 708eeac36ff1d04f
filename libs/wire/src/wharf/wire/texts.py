"""Status texts that clients of a Go gRPC server know, in one place for both front ends."""

from __future__ import annotations

from collections.abc import Iterable


def unknown_method_text(path: str, methods: Iterable[str]) -> str:
    """Why `path` ("/package.Service/Method") is not served, in grpc-go's words."""
    service, separator, name = path[1:].rpartition("/")
    if not path.startswith("/") or not separator:
        return f'malformed method name: "{path}"'
    prefix = f"/{service}/"
    if any(known.startswith(prefix) for known in methods):
        return f"unknown method {name} for service {service}"
    return f"unknown service {service}"
