"""Engine URLs as configuration: lmdb:///DIR, memory:, postgresql://. Pure.

Values that the driver checks only when it connects (`sslmode`) are checked here, and so are names that are nearly one
of the driver's: it sends every other name to the server as a setting, which is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from wharf.common.parsers import BadValue, Parser, check_login, parse_url
from wharf.common.service_urls import check_parameters, files_in

POSTGRES: Final = ("postgresql", "postgres")
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_FREE: Final = (
    *(*_FILES, "sslpassword", "passfile", "user", "password", "host", "port", "dbname", "database"),
    *("application_name", "search_path", "service", "krbsrvname", "gsslib"),
)
_CHOICES: Final[Mapping[str, Collection[str]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
}
_PARAMETERS: Final[Mapping[str, Collection[str]]] = {**dict.fromkeys(_FREE, ()), **_CHOICES}
_LIBPQ_ONLY: Final = frozenset(
    ("connect_timeout", "channel_binding", "gssencmode", "keepalives", "keepalives_idle", "keepalives_interval")
)  # the driver would send these to the server, which knows no such setting


def _parse(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not text or (scheme == "memory" and colon and not rest):
        return text
    if scheme == "lmdb":
        if not rest.startswith("//") or len(rest) <= len("//"):
            raise BadValue("names no directory")
        return text
    if scheme not in POSTGRES:
        raise BadValue("has an unknown scheme" if colon else "has no scheme")
    if not rest.startswith("//") or rest == "//":
        raise BadValue("names no host")
    check_login(text)
    parts = urlsplit(text)
    for host in parts.netloc.rpartition("@")[2].split(","):
        if host:
            parse_url(f"{scheme}://{host.removesuffix(':')}", POSTGRES)
    check_parameters(parts.query, _PARAMETERS, settings=True)
    if found := _LIBPQ_ONLY & dict(parse_qsl(parts.query)).keys():
        raise BadValue(f"has the parameter {min(found)!r}, which is libpq's and has no effect here; leave it out")
    return text


def each_host(url: str) -> list[str]:
    """A URL of one host for each of the hosts in `url`, in order."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]


ENGINE_URL: Final[Parser[str]] = Parser(
    "URL",
    "lmdb:///DIR, postgresql://USER:PASSWORD@HOST,HOST/DATABASE?sslmode=… or memory:",
    _parse,
    files=lambda text: files_in(text, _FILES) if text.startswith(POSTGRES) else (),
)
