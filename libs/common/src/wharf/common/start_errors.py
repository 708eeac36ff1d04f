"""Turns an error of a service's start into a ConfigError: the flag, its value, the cause, the remedy.

What a configuration cannot show before it is used (a port in use, a directory of another user) is a mistake of the
configuration all the same, so it ends the process as one: plain lines on stderr and exit code 2.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from wharf.common.config import ConfigError
from wharf.common.parsers import Url
from wharf.common.schema import Config, Schema
from wharf.wire.tcp import ListenError

C = TypeVar("C", bound=Config)

_LISTEN_REMEDIES: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: "stop the process that listens there, or give another port",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; give another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; give one of its own or 0.0.0.0",
    errno.EEXIST: "name another path, or remove the file",
    errno.EAFNOSUPPORT: "this machine does not speak that address family; give another address",
}
_SOCKET_REMEDY: Final = "stop the process that serves it, or name a path in a directory that this user may write"
_OTHER_REMEDY: Final = "is another process listening there? Give another address or port"


def listen_error(schema: Schema[C], config: C, error: ListenError) -> ConfigError:
    """The error of the listen URL in `config` that `error` is about."""
    if error.path:
        return _socket_file_error(schema, config, error)
    cause = os.strerror(error.errno).lower() if error.errno else error.reason
    remedy = _LISTEN_REMEDIES.get(error.errno, _OTHER_REMEDY)
    for flag, (item, _) in schema.options().items():
        for url in _urls(getattr(config, item.name)):
            if (url.port or 0) == error.port and error.host in (url.host, _localhost(url.host)):
                return ConfigError(f"--{flag}: cannot listen on {url}: {cause}; {remedy}")
    return ConfigError(f"cannot listen on {error.host}:{error.port}: {cause}; {remedy}")


def _socket_file_error(schema: Schema[C], config: C, error: ListenError) -> ConfigError:
    remedy = _LISTEN_REMEDIES[errno.EEXIST] if error.errno == errno.EEXIST else _SOCKET_REMEDY
    text = f"cannot listen on unix://{error.path}: {error.reason}; {remedy}"
    for flag, (item, _) in schema.options().items():
        if any(url.socket_path == error.path for url in _urls(getattr(config, item.name))):
            return ConfigError(f"--{flag}: {text}")
    return ConfigError(text)


def check_certificate_pair(flags: str, cert: Path, key: Path | None) -> None:
    """ConfigError, under the name `flags`, if the PEM files are no certificate with its unencrypted key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{flags}: cannot load {cert} with {key}: {error}; give a PEM certificate with the unencrypted key it was "
            "made for"
        ) from error


def check_authorities(flag: str, path: Path) -> None:
    """ConfigError, under the name `flag`, if the PEM file holds no certificates of authorities."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{flag}: {path}: {error}; give PEM certificates of authorities") from error


def directory_error(flag: str, path: Path) -> ConfigError | None:
    """Why a service cannot keep its files in `path`, which it would create; None if it can."""
    existing = path
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        if not existing.is_dir():
            return ConfigError(f"--{flag}: {path}: {existing} is not a directory; give another directory")
    except OSError as error:
        return ConfigError(f"--{flag}: {path}: {error.strerror}; give a directory that this user may write")
    if not os.access(existing, os.W_OK | os.X_OK):
        return ConfigError(f"--{flag}: {path}: no permission to write in {existing}; give a directory of this user")
    return None


def _urls(value: object) -> tuple[Url, ...]:
    return tuple(item for item in value if isinstance(item, Url)) if isinstance(value, tuple) else ()


def _localhost(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host
