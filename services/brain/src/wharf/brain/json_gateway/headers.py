"""HTTP headers of a JSON request as gRPC metadata. Pure.

As grpc-gateway does it: `Authorization` goes on under its name, `Grpc-Metadata-X` as `x`, `Grpc-Timeout` is the
deadline. `traceparent` and `tracestate` go on too, so that traces continue.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Final

from wharf.wire.grpc import BadTimeout, parse_timeout
from wharf.wire.http import Headers
from wharf.wire.rpc import Metadata

_METADATA: Final = b"grpc-metadata-"
_KEPT: Final = frozenset((b"authorization", b"traceparent", b"tracestate"))


class BadHeader(ValueError):
    """A header that means something here cannot be read."""


def metadata_of(headers: Headers) -> Metadata:
    """The metadata of the call; BadHeader."""
    found = []
    for name, value in headers:
        if name in _KEPT:
            found.append((name, value))
        elif name.startswith(_METADATA):
            plain = name.removeprefix(_METADATA)
            found.append((plain, _decode(plain, value) if plain.endswith(b"-bin") else value))
    return tuple(found)


def timeout_of(headers: Headers) -> float | None:
    """Seconds the client waits; None: as long as it takes. BadHeader."""
    for name, value in headers:
        if name == b"grpc-timeout":
            try:
                return parse_timeout(value)
            except BadTimeout as error:
                raise BadHeader(f"invalid grpc-timeout: {value.decode('latin-1')}") from error
    return None


def comes_from_page(headers: Headers) -> bool:
    """Whether a browser sends this for a web page.

    brain has no pages, so the page is of another origin. Browsers send such a POST without asking first: a page could
    write to a store that only the machine of its reader reaches.
    """
    return any(name == b"origin" for name, _ in headers)


def _decode(name: bytes, value: bytes) -> bytes:
    try:
        return b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise BadHeader(f"invalid binary header {name.decode('latin-1')}: {error}") from error
