"""Engine URLs as configuration: lmdb:///DIR, memory:, postgresql://. Pure.

Every parameter of a PostgreSQL URL is checked against what the driver and this engine know, because the driver sends an
unknown one to the server as a setting and a wrong `sslmode` only fails when the first connection is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from wharf.common.parsers import BadValue, Parser, check_login, parse_url
from wharf.common.service_urls import check_parameters, files_in

POSTGRES: Final = ("postgresql", "postgres")
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_PARAMETERS: Final[Mapping[str, Collection[str]]] = {
    **dict.fromkeys((*_FILES, "sslpassword", "passfile", "user", "password", "host", "port", "dbname", "database"), ()),
    **dict.fromkeys(("application_name", "search_path", "service", "krbsrvname", "gsslib"), ()),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
}


def _parse(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not text or (scheme == "memory" and colon and not rest):
        return text
    if scheme == "lmdb":
        if not rest.startswith("//") or len(rest) <= len("//"):
            raise BadValue("names no directory")
        return text
    if scheme not in POSTGRES:
        raise BadValue(f"has the unknown scheme {scheme!r}" if colon else "has no scheme")
    if not rest.startswith("//") or rest == "//":
        raise BadValue("names no host")
    check_login(text)
    for part in each_host(text):
        url = parse_url(part, POSTGRES)
    check_parameters(url.query, _PARAMETERS)
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
