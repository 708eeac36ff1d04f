"""TLS between nodes: certificate, key and CA as the files are now, for every new connection in either direction.

Certificates are replaced while nodes run, and one file after the other. Invariant: what is used is one set of files
that belong together, the newest such set there has been; a set that cannot be used is said so once, and the one before
goes on being used. Sessions that are open stay open.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
from wharf.common.log import get_log

_log = get_log("brain.peer_tls")


@dataclass(frozen=True, slots=True)
class PeerFiles:
    """This node's certificate and key, and the CA of all nodes' certificates; PEM."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class _Loaded:
    cert: bytes
    key: bytes
    ca: bytes


class PeerTls:
    """See the module. For any thread: gRPC asks from its own."""

    def __init__(self, files: PeerFiles) -> None:
        """ValueError when the files cannot be used."""
        self._files = files
        self._lock = threading.Lock()
        self._stamp = _stamp(files)
        self._loaded = _load(files)
        self._served = self._loaded

    def channel(self) -> grpc.ChannelCredentials:
        """For one new connection to another node."""
        now = self._current()
        return grpc.ssl_channel_credentials(now.ca, now.key, now.cert)

    def server(self) -> grpc.ServerCredentials:
        """For a listener; each handshake asks for the files anew. Every client must show a certificate."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._served), cast(Any, self._changed), require_client_authentication=True
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """None: as before."""
        now = self._current()
        with self._lock:
            if now is self._served:
                return None
            self._served = now
        return _configuration(now)

    def _current(self) -> _Loaded:
        with self._lock:
            stamp = _stamp(self._files)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._loaded = _load(self._files)
                except ValueError as error:
                    _log.warn("certificates between nodes stay as they were", reason=str(error))
                else:
                    _log.info("certificates between nodes are read anew", file=str(self._files.cert))
            return self._loaded


def _stamp(files: PeerFiles) -> tuple[tuple[int, int, int] | None, ...]:
    stamps: list[tuple[int, int, int] | None] = []
    for path in (files.cert, files.key, files.ca):
        try:
            found = os.stat(path)
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamps)


def _load(files: PeerFiles) -> _Loaded:
    """ValueError says which file is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    before = _read(files)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot use {files.cert} with {files.key}: {error}") from None
    try:
        context.load_verify_locations(files.ca)
    except OSError as error:
        raise ValueError(f"cannot use {files.ca} as CA: {error}") from None
    if _read(files) != before:
        raise ValueError(f"{files.cert}, its key or its CA is being replaced")
    return before


def _read(files: PeerFiles) -> _Loaded:
    try:
        return _Loaded(files.cert.read_bytes(), files.key.read_bytes(), files.ca.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from None


def _no_password() -> str:
    """Nobody sits at a terminal."""
    raise ValueError("the key is encrypted")


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.cert)], loaded.ca)
