"""WatchResponse as bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wharf.brain.store.keys import encode_varint

PROGRESS_ALL = -1  # watch id of what concerns a whole stream
CREATED, CANCELED, FRAGMENT = b"\x18\x01", b"\x20\x01", b"\x38\x01"


def watch_id_field(watch_id: int) -> bytes:
    return b"\x10" + encode_varint(watch_id) if watch_id else b""


def created(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id) + CREATED


def refused(header: bytes, reason: str) -> bytes:
    """Created and canceled at once, under no id."""
    text = reason.encode()
    return header + watch_id_field(PROGRESS_ALL) + CREATED + CANCELED + b"\x32" + encode_varint(len(text)) + text


def canceled(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id) + CANCELED


def compacted(header: bytes, watch_id: int, compact_revision: int) -> bytes:
    return header + watch_id_field(watch_id) + CANCELED + b"\x28" + encode_varint(compact_revision)


def progress(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id)


def events(header: bytes, watch_id: int, body: bytes) -> bytes:
    return header + watch_id_field(watch_id) + body


def fragments(header: bytes, watch_id: int, framed: Sequence[bytes], limit: int) -> Iterator[bytes]:
    """One response, or several below `limit` bytes each where events allow it; all but the last say there is more."""
    head = header + watch_id_field(watch_id)
    if len(framed) < 2 or len(head) + sum(map(len, framed)) < limit:
        yield head + b"".join(framed)
        return
    parts: list[bytes] = []
    size = len(head) + len(FRAGMENT)
    for event in framed:
        if parts and size + len(event) >= limit:
            yield head + FRAGMENT + b"".join(parts)
            parts, size = [], len(head) + len(FRAGMENT)
        parts.append(event)
        size += len(event)
    yield head + b"".join(parts)
