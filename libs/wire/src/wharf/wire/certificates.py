"""Who a certificate names: common name, organizations, DNS names, read from its DER form. Pure.

Only for certificates that TLS has verified already; this reads names, it proves nothing. Source: RFC 5280, X.690.
"""

from __future__ import annotations

from collections.abc import Iterator

from wharf.wire.rpc import PeerCertificate

_SEQUENCE, _OID, _CONTEXT_0, _EXTENSIONS, _DNS_NAME = 0x30, 0x06, 0xA0, 0xA3, 0x82
_COMMON_NAME = bytes.fromhex("550403")
_ORGANIZATION = bytes.fromhex("55040a")
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
_LONG_FORM, _LENGTH_BYTES_MAX = 0x80, 4
_BMP_STRING = 0x1E


class BadCertificate(ValueError):
    """Bytes that are no certificate."""


def parse_peer_certificate(der: bytes) -> PeerCertificate:
    """The names in a DER certificate; BadCertificate when it is none."""
    fields = list(_children(_only(_only(der))))
    if fields and fields[0][0] == _CONTEXT_0:
        fields = fields[1:]  # version
    if len(fields) < 6:
        raise BadCertificate("too few fields")
    names = list(_names(fields[4][1]))
    extensions = [value for tag, value in fields[6:] if tag == _EXTENSIONS]
    return PeerCertificate(
        common_name=next((value for oid, value in names if oid == _COMMON_NAME), ""),
        organizations=tuple(value for oid, value in names if oid == _ORGANIZATION),
        dns_names=tuple(_dns_names(extensions[0])) if extensions else (),
        der=der,
    )


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element in `data`."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise BadCertificate("an element is cut short")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & _LONG_FORM:
            count = length & 0x7F
            if not 0 < count <= _LENGTH_BYTES_MAX:
                raise BadCertificate("a length of impossible size")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > len(data):
            raise BadCertificate("an element is cut short")
        yield tag, data[at : at + length]
        at += length


def _only(data: bytes) -> bytes:
    """The content of the first element, a sequence."""
    for tag, content in _children(data):
        if tag == _SEQUENCE:
            return content
        break
    raise BadCertificate("a sequence was expected")


def _names(subject: bytes) -> Iterator[tuple[bytes, str]]:
    """(OID, text) of each attribute of a distinguished name."""
    for _, group in _children(subject):
        for _, attribute in _children(group):
            parts = list(_children(attribute))
            if len(parts) == 2 and parts[0][0] == _OID:
                tag, value = parts[1]
                yield parts[0][1], value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")


def _dns_names(extensions: bytes) -> Iterator[str]:
    for _, extension in _children(_only(extensions)):
        parts = list(_children(extension))
        if parts and parts[0][1] == _ALTERNATIVE_NAMES:
            for tag, name in _children(_only(parts[-1][1])):
                if tag == _DNS_NAME:
                    yield name.decode("ascii", "replace")
