"""Checks of a configuration against this machine, made before anything starts; certificates of `--auto-tls`.

Each mistake ends as a ConfigError with the flag, the value, the cause and the remedy.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wharf.brain.config import BrainConfig
from wharf.brain.front_wire import tls_config
from wharf.common.config import ConfigError
from wharf.common.start_errors import check_authorities, directory_error
from wharf.wire.tls import TlsError, build_context

if TYPE_CHECKING:
    from wharf.common.self_signed import KeptCertificate

_LMDB: Final = "lmdb://"
_WILDCARDS: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 - recognised, not bound
_YEAR: Final = timedelta(days=365)


def check_start(config: BrainConfig) -> None:
    """ConfigError if this machine cannot give what `config` asks for."""
    flag, path = _directory(config)
    if error := directory_error(flag, path):
        raise error
    if config.cert_file is not None:
        check_certificate(config)
    if config.trusted_ca_file is not None:
        check_authorities("--trusted-ca-file", config.trusted_ca_file)


def check_certificate(config: BrainConfig) -> None:
    """ConfigError if the server's certificate, key or client CA cannot be used."""
    tls = tls_config(config)
    try:
        build_context(tls.identities[0], tls)
    except TlsError as error:
        raise ConfigError(
            f"--cert-file, --key-file, --trusted-ca-file: {error}; give a PEM certificate with the key it was made for"
        ) from error


def kept_certificate(config: BrainConfig) -> KeptCertificate | None:
    """The self-signed certificate that `config` asks for; None: it asks for none, or brings its own."""
    if not config.auto_tls or config.cert_file is not None:
        return None
    from wharf.common.self_signed import KeptCertificate  # noqa: PLC0415  cryptography is loaded only where it is used

    directory = _directory(config)[1] / "fixtures" / "client"  # where etcd keeps its own
    return KeptCertificate(directory, _hosts(config), "wharf-brain", config.self_signed_cert_validity * _YEAR)


def with_certificate(config: BrainConfig, kept: KeptCertificate) -> BrainConfig:
    """`config` with the kept certificate, made now where it is missing or expires soon. ConfigError."""
    try:
        kept.ensure()
    except OSError as error:
        raise ConfigError(
            f"--auto-tls: {kept.cert_file.parent} cannot be written: {error.strerror}; give a --data-dir of this user"
        ) from error
    return replace(config, cert_file=kept.cert_file, key_file=kept.key_file)


def _directory(config: BrainConfig) -> tuple[str, Path]:
    """The directory that this node writes in, and the flag that names it."""
    if config.engine.startswith(_LMDB):
        return "engine", Path(config.engine.removeprefix(_LMDB))
    return "data-dir", config.directory


def _hosts(config: BrainConfig) -> tuple[str, ...]:
    """The hosts of the https URLs, advertised ones too; a wildcard stands for this machine's name and loopback."""
    found = [url.host for url in (*config.listeners, *config.advertise_client_urls) if url.scheme == "https"]
    if not _WILDCARDS.isdisjoint(found):
        found += [socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    elif "localhost" in found:
        found += ["127.0.0.1", "::1"]
    return tuple(dict.fromkeys(host for host in found if host not in _WILDCARDS))
