"""Why bytes are no protobuf message, in the words of etcd's generated Go code. Pure.

Only asked after parsing has failed. Fields are walked at the top level; a fault deeper inside reads as truncation,
which it almost always is.
"""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

TRUNCATED = "unexpected EOF"
_GROUP_END = 4
_FIXED = {1: 8, 5: 4}  # wire type → bytes


_DELIMITED = frozenset((FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE))


def why_malformed(kind: type[Message], data: bytes) -> str:
    """The fault of `data` as a message of `kind`."""
    name = kind.DESCRIPTOR.name
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if at > len(data):
            return TRUNCATED
        wire_type = key & 7
        if wire_type == _GROUP_END:
            return f"proto: {name}: wiretype end group for non-group"
        if not key >> 3:
            return f"proto: {name}: illegal tag 0 (wire type {key})"
        if wire_type in (6, 7):
            return f"proto: illegal wireType {wire_type}"
        field = kind.DESCRIPTOR.fields_by_number.get(key >> 3)
        if field is not None and wire_type not in _wire_types(field.type, field.is_repeated):
            return f"proto: wrong wireType = {wire_type} for field {_go_name(field.name)}"
        at = _after(data, at, wire_type)
        if at > len(data):
            return TRUNCATED
    return TRUNCATED


def _wire_types(type_: int, is_repeated: bool) -> tuple[int, ...]:
    """How a field of etcd's messages may be coded: they have no fixed-width ones."""
    if type_ in _DELIMITED:
        return (2,)
    return (0, 2) if is_repeated else (0,)


def _go_name(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _after(data: bytes, at: int, wire_type: int) -> int:
    """Where the next field begins; beyond the end when this one is cut off."""
    if wire_type == 0:
        return _varint(data, at)[1]
    if wire_type == 2:
        length, at = _varint(data, at)
        return at + length
    return at + _FIXED.get(wire_type, 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends); beyond the end when it is cut off or longer than ten bytes."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, len(data) + 1
