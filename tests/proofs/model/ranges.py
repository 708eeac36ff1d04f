"""The protocol's key ranges."""

from __future__ import annotations


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    """No end is the one key, end zero byte is everything from `start`."""
    if end == b"":
        return key == start
    if end == b"\0":
        return key >= start
    return start <= key < end
