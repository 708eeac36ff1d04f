"""The listener's own certificate, for names of no cluster and clusters that bring none.

It comes from files, or is made at the start.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from wharf.common.log import get_log
from wharf.common.self_signed import make_self_signed
from wharf.wire.server_tls import Identity

NAME: Final = ""  # of the identity: no cluster is called so
_DAYS: Final = 365

_log = get_log("gateway.tls")
_Stamp = tuple[int, int, int]


class ListenerCertificate:
    """Read again when its files change. `identity` is None until `look` found a usable pair."""

    def __init__(self, cert_file: Path | None, key_file: Path | None, hosts: tuple[str, ...]) -> None:
        """OSError when the files cannot be read."""
        self._files = (cert_file, key_file) if cert_file is not None and key_file is not None else None
        self._stamps: tuple[_Stamp, ...] = ()
        if self._files is None:
            _log.warn("no --tls-cert-file: clients of clusters without a certificate meet one that nobody signed")
            self.identity = make_identity(hosts)
        else:
            self._stamps = tuple(_stamp(path) for path in self._files)
            self.identity = _read(*self._files)

    def look(self) -> bool:
        """Whether the files changed, and `identity` with them."""
        if self._files is None:
            return False
        try:
            stamps = tuple(_stamp(path) for path in self._files)
            if stamps == self._stamps:
                return False
            self.identity = _read(*self._files)
        except OSError as error:
            _log.error("the listener's certificate cannot be read, the one before stays", reason=str(error))
            return False
        self._stamps = stamps
        return True


def make_identity(hosts: tuple[str, ...]) -> Identity:
    """A self-signed certificate for these names, valid for a year."""
    pair = make_self_signed(hosts, "wharf-gateway", timedelta(days=_DAYS), datetime.now(UTC))
    return Identity(NAME, pair.certificate, pair.key)


def _stamp(path: Path) -> _Stamp:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(cert_file: Path, key_file: Path) -> Identity:
    return Identity(NAME, cert_file.read_bytes(), key_file.read_bytes())
