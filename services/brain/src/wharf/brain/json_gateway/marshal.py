"""Messages and their JSON, by the rules of Go's protojson as etcd's gateway is set up. Pure.

Written: names as in the proto files, fields without a value left out, 64-bit integers as strings, bytes in base64,
enums by name. Read: both spellings of names, unknown fields and enum names passed over, numbers or strings for
integers, both alphabets of base64 with or without padding. Source: protobuf's ProtoJSON format, protojson's
`UseProtoNames` and `DiscardUnknown`.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn, TypeVar, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_URL_ALPHABET: Final = str.maketrans("-_", "+/")
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_64_BITS: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


class JsonError(ValueError):
    """The text is no such message; the error says where and why."""


# Reading


def split_values(body: bytes) -> Iterator[Any]:
    """The JSON values that follow each other in `body`; JsonError where one is broken."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"proto: invalid UTF-8 at byte {error.start}") from error
    at = _skip_space(text, 0)
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise JsonError(f"proto: syntax error (line {error.lineno}:{error.colno}): {error.msg}") from error
        except RecursionError as error:
            raise JsonError("proto: exceeded max recursion depth") from error
        except JsonError:
            raise
        except ValueError as error:  # a number of too many digits
            raise JsonError(f"proto: syntax error: {error}") from error
        yield value
        at = _skip_space(text, at)


def parse_message(kind: type[M], value: Any) -> M:
    """The message that a JSON value stands for; JsonError."""
    message = kind()
    try:
        _fill(message, value)
    except RecursionError as error:
        raise JsonError("proto: exceeded max recursion depth") from error
    return message


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("proto: a name is given twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"proto: syntax error: invalid value {name}")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _fill(message: Message, value: Any) -> None:
    if not isinstance(value, dict):
        raise JsonError(f"proto: syntax error: unexpected token {_shown(value)}, expected an object")
    fields = _fields(cast(Descriptor, message.DESCRIPTOR))
    given: set[str] = set()
    for name, item in value.items():
        field = fields.get(name)
        if field is None or item is None:
            continue
        oneof = field.containing_oneof
        if field.name in given:
            raise JsonError(f"proto: duplicate field {_quoted(name)}")
        if oneof is not None and oneof.name in given:
            raise JsonError(f"proto: error parsing {_quoted(name)}, oneof {oneof.full_name} is already set")
        given.update((field.name, *(() if oneof is None else (oneof.name,))))
        if field.is_repeated:
            _extend(message, field, item)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            _fill(inner, item)
        else:
            scalar = _scalar(field, item)
            if scalar is not None:
                _set(message, field, scalar)


def _extend(message: Message, field: FieldDescriptor, items: Any) -> None:
    if not isinstance(items, list):
        raise JsonError(f"proto: syntax error: unexpected token {_shown(items)}, expected an array")
    held = getattr(message, field.name)
    for item in items:
        if field.message_type is not None:
            _fill(held.add(), item)
        else:
            scalar = _scalar(field, item)
            if scalar is not None:
                try:
                    held.append(scalar)
                except (ValueError, UnicodeError) as error:
                    raise _invalid(field, item) from error


def _set(message: Message, field: FieldDescriptor, scalar: Any) -> None:
    try:
        setattr(message, field.name, scalar)
    except (ValueError, UnicodeError) as error:  # half a surrogate pair
        raise _invalid(field, scalar) from error


def _scalar(field: FieldDescriptor, value: Any) -> int | bool | str | bytes | None:
    """The value of a field; None for an enum name that is not known."""
    if field.enum_type is not None:
        return _enum(field, field.enum_type, value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and isinstance(value, str):
        return _bytes(field, value) if field.type == FieldDescriptor.TYPE_BYTES else value
    if field.cpp_type in _RANGES and not isinstance(value, bool):
        return _integer(field, value, *_RANGES[field.cpp_type])
    raise _invalid(field, value)


def _enum(field: FieldDescriptor, kind: EnumDescriptor, value: Any) -> int | None:
    if isinstance(value, str):
        known = kind.values_by_name.get(value)
        return None if known is None else int(known.number)
    if isinstance(value, bool):
        raise _invalid(field, value)
    return _integer(field, value, *_RANGES[FieldDescriptor.CPPTYPE_INT32])


def _integer(field: FieldDescriptor, value: Any, least: int, most: int) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _invalid(field, value) from error
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or not least <= value <= most:
        raise _invalid(field, value)
    return value


def _bytes(field: FieldDescriptor, value: str) -> bytes:
    try:
        return b64decode(value.translate(_URL_ALPHABET) + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(field, value) from error


def _invalid(field: FieldDescriptor, value: Any) -> JsonError:
    kind = "bytes" if field.type == FieldDescriptor.TYPE_BYTES else _TYPES.get(field.cpp_type, "message")
    return JsonError(f"proto: invalid value for {kind} field {field.name}: {_shown(value)}")


_TYPES: Final = {
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
_SHOWN_MAX: Final = 80


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{"
    if isinstance(value, list):
        return "["
    return _quoted(value) if isinstance(value, str) else json.dumps(value)[:_SHOWN_MAX]


_by_type: dict[str, Mapping[str, FieldDescriptor]] = {}


def _fields(kind: Descriptor) -> Mapping[str, FieldDescriptor]:
    """The fields of a message by both of their names."""
    found = _by_type.get(kind.full_name)
    if found is None:
        found = {field.json_name: field for field in kind.fields} | {field.name: field for field in kind.fields}
        _by_type[kind.full_name] = found
    return found


# Writing


def render(message: Message) -> str:
    """`message` as JSON text."""
    return json.dumps(to_json(message), separators=(",", ":"), ensure_ascii=False)


def to_json(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        write = _writer(field)
        found[field.name] = [write(item) for item in value] if field.is_repeated else write(value)
    return found


def _writer(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.message_type is not None:
        return to_json
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return lambda number: names[number].name if number in names else number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: b64encode(value).decode("ascii")
    return str if field.cpp_type in _64_BITS else _same


def _same(value: Any) -> Any:
    return value
