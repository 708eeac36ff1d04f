"""Addresses of the services that wharf connects to: Redis, NATS, an OTLP collector. Parsers for configuration.

A URL is checked whole when the configuration is read, so that a permanent mistake (an unknown scheme, an unknown
parameter) ends the start with the flag's name instead of an endless reconnection. PostgreSQL's rules are the engine's,
which builds on `check_parameters`.

Invariant: no error holds a login.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from wharf.common.events import parse_servers
from wharf.common.parsers import BadValue, Parser, check_login, parse_url

_REDIS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_PARAMETERS: Final[Mapping[str, Collection[str]]] = {
    **dict.fromkeys((*_REDIS_FILES, "ssl_ca_path", "db", "username", "password", "client_name"), ()),
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false", "True", "False"),
    "ssl_min_version": (),
}


def check_parameters(query: str, known: Mapping[str, Collection[str]], *, settings: bool = False) -> None:
    """Check a URL's query. `known`: name → allowed values, none given: any. `settings`: other names are allowed, unless
    they are nearly a known one.

    BadValue names an unknown parameter or a value that is not allowed; nothing that may be part of a password.
    """
    try:
        found = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise BadValue("has a query that is not name=value&name=value") from None
    secret = False  # what follows a password may be the rest of it, after an unescaped &
    for name, value in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.8 if settings else 0.6)
            shown = "" if secret else f" {name!r}"
            if close:
                raise BadValue(f"has an unknown parameter{shown}; did you mean {close[0]!r}?")
            if not settings or secret:
                raise BadValue(f"has an unknown parameter{shown}")
        elif known[name] and value not in known[name]:
            shown = "a value" if secret else repr(value)
            raise BadValue(f"has {name}={shown}, which is not one of {', '.join(known[name])}")
        secret = secret or "password" in name


def files_in(text: str, names: Sequence[str]) -> tuple[Path, ...]:
    """The files that the parameters `names` of a URL name."""
    return tuple(Path(value) for name, value in parse_qsl(urlsplit(text).query) if name in names and value)


def _redis(text: str) -> str:
    if not text:
        return text
    check_login(text)
    url = parse_url(text, ("redis", "rediss"))
    database = url.path.strip("/")
    if database and not database.isdecimal():
        raise BadValue(f"names the database {database!r}, which is not a number")
    check_parameters(url.query, _REDIS_PARAMETERS)
    return text


def _nats(text: str) -> str:
    if not text:
        return text
    for part in text.split(","):
        check_login(part if "://" in part else f"nats://{part}")
    try:
        parse_servers(text)
    except ValueError:
        raise BadValue("is not a list of NATS servers; percent-encode a ',' in a password as %2C") from None
    return text


def _otlp(text: str) -> str:
    if text:
        parse_url(text if "://" in text else f"http://{text}", ("http", "https"))
    return text


REDIS_URL: Final[Parser[str]] = Parser(
    "URL",
    "redis[s]://USER:PASSWORD@HOST:PORT/NUMBER?ssl_ca_certs=FILE",
    _redis,
    files=lambda text: files_in(text, _REDIS_FILES),
)
NATS_URL: Final[Parser[str]] = Parser("URL", "nats:// or tls://USER:PASSWORD@HOST:PORT,HOST:PORT", _nats)
OTLP_ENDPOINT: Final[Parser[str]] = Parser("ENDPOINT", "host:port, http://host:port or https://host:port", _otlp)
