"""Where an apiserver is and how to be known there: from a kubeconfig file, or from a pod's own service account.

Everything is read into memory, so what a process uses cannot change under it half-way; only a token in a file is read
again, because the kubelet replaces it. Credential plugins are not run: they are programs of somebody else's.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from wharf.wire.client_shell import Target, client_context
from wharf.wire.web import Header

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REFUSED: Final = {
    "exec": "credential plugins (exec)",
    "auth-provider": "auth providers",
    "username": "user names with passwords",
    "as": "impersonation",
}


class KubeconfigError(ValueError):
    """A kubeconfig that cannot be used; says where and why."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an apiserver."""

    host: str
    port: int
    tls: bool
    path: str = ""  # before every request's own: "/k8s/clusters/a"
    server_name: str = ""  # to verify; empty: the host
    insecure: bool = False
    namespace: str = "default"
    ca_pem: bytes | None = field(default=None, repr=False)
    cert_pem: bytes = field(default=b"", repr=False)
    key_pem: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None  # read for each request when set

    def target(self) -> Target:
        """What to dial. TlsError when certificates cannot be used."""
        context = None
        if self.tls:
            context = client_context(
                self.ca_pem, self.cert_pem, self.key_pem, insecure=self.insecure, name=f"{self.host}:{self.port}"
            )
        return Target(self.host, self.port, context, self.server_name)

    def headers(self) -> tuple[Header, ...]:
        """Credentials that go with each request."""
        token = self.token_file.read_text().strip() if self.token_file is not None else self.token
        return ((b"authorization", b"Bearer " + token.encode()),) if token else ()


def load_kubeconfig(path: Path | None, context: str = "") -> Access:
    """The access that a file's context describes (empty: its current one); without a file the pod's own.

    KubeconfigError when there is none, or it needs what is not supported.
    """
    if path is None:
        return _in_cluster(os.environ, _SERVICE_ACCOUNT)
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path}: not a kubeconfig")
    return _Reader(path, document).access(context)


def _in_cluster(environment: Mapping[str, str], folder: Path) -> Access:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeconfigError("no kubeconfig given, and not in a pod (KUBERNETES_SERVICE_HOST is not set)")
    try:
        ca_pem = (folder / "ca.crt").read_bytes()
        namespace = (folder / "namespace").read_text().strip()
        (folder / "token").read_bytes()
    except OSError as error:
        raise KubeconfigError(f"the pod has no service account: {error}") from error
    return Access(host, int(port), True, namespace=namespace, ca_pem=ca_pem, token_file=folder / "token")


class _Reader:
    """One kubeconfig document."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._path = path
        self._document = document

    def access(self, context_name: str) -> Access:
        name = context_name or self._document.get("current-context") or ""
        if not name:
            raise self._error("no context chosen: there is no current-context")
        context = self._entry("contexts", "context", name)
        cluster = self._entry("clusters", "cluster", str(context.get("cluster", "")))
        user = self._entry("users", "user", str(context["user"])) if context.get("user") else {}
        for key, what in _REFUSED.items():
            if user.get(key):
                raise self._error(f"users[{context['user']}].{key}: {what} are not supported")
        if cluster.get("proxy-url"):
            raise self._error(f"clusters[{context['cluster']}].proxy-url: proxies are not supported")
        host, port, tls, prefix = self._server(str(cluster.get("server", "")))
        token_file = user.get("tokenFile")
        return Access(
            host=host,
            port=port,
            tls=tls,
            path=prefix,
            server_name=str(cluster.get("tls-server-name") or ""),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            namespace=str(context.get("namespace") or "default"),
            ca_pem=self._material(cluster, "certificate-authority"),
            cert_pem=self._material(user, "client-certificate") or b"",
            key_pem=self._material(user, "client-key") or b"",
            token=str(user.get("token") or ""),
            token_file=self._path.parent / str(token_file) if token_file else None,
        )

    def _entry(self, section: str, key: str, name: str) -> Mapping[str, Any]:
        for entry in self._document.get(section) or ():
            if isinstance(entry, dict) and entry.get("name") == name:
                found = entry.get(key)
                if isinstance(found, dict):
                    return found
        raise self._error(f"{section} has no {name!r}")

    def _server(self, url: str) -> tuple[str, int, bool, str]:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise self._error(f"server {url!r}: {error}") from error
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise self._error(f"server {url!r} is no https:// or http:// address")
        tls = parts.scheme == "https"
        return parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/")

    def _material(self, entry: Mapping[str, Any], name: str) -> bytes | None:
        """PEM given inline (base64) or by a file, whose path is relative to the kubeconfig. Inline goes first."""
        inline, file = entry.get(f"{name}-data"), entry.get(name)
        try:
            if inline:
                return base64.b64decode(str(inline), validate=True)
            return (self._path.parent / str(file)).read_bytes() if file else None
        except (binascii.Error, OSError) as error:
            raise self._error(f"{name}: {error}") from error

    def _error(self, text: str) -> KubeconfigError:
        return KubeconfigError(f"{self._path}: {text}")
