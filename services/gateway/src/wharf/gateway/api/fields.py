"""A small language for what a document may hold. Said once, it reads documents, makes the CRD's schema and the manual.

A kind knows three things: how to read a value (collecting every problem with its path, never stopping at the first),
its OpenAPI schema, and its name for people. Defaults are not repeated: they are those of the dataclass a shape makes.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from dataclasses import fields as declared
from enum import Enum
from typing import Any, Final, Protocol

BAD: Final = object()  # stands for a value that was refused; its problem has been noted
Values = Mapping[str, Any]  # document name → read value


class Unread(Exception):
    """A rule asked for a value that was refused: nothing can be said about the rule."""


class Given(dict[str, Any]):
    """What a document gives, as rules see it: a refused value is there, but may not be looked at."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if is_bad(value):
            raise Unread(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]


@dataclass(frozen=True, slots=True)
class Broken:
    """A refused object: rules that go over several objects still see those of its fields that could be read."""

    values: Given


def is_bad(value: object) -> bool:
    return value is BAD or isinstance(value, Broken)


def peek(entry: object, name: str, default: Any = None) -> Any:
    """A field, by its document name, of a read object or of a refused one; `default` where it could not be read."""
    if isinstance(entry, Broken):
        found = dict.get(entry.values, name, default)
        return default if found is BAD else found
    return default if entry is BAD else getattr(entry, _snake_case(name), default)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: `spec.policies[0].name`."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class Reading:
    """One document being read: what has been found wrong, and what the surroundings allow."""

    def __init__(self, strategies: frozenset[str], *, files: bool) -> None:
        self.strategies = strategies
        self.files = files
        self.problems: list[Problem] = []

    def refuse(self, path: str, text: str) -> object:
        """Notes a problem; BAD, so that a reader can return it."""
        self.problems.append(Problem(path, text))
        return BAD


class Kind(Protocol):
    """A type of value."""

    @property
    def word(self) -> str:
        """Its name for people."""
        ...

    def read(self, value: object, path: str, reading: Reading) -> Any:
        """The value in our own types, or BAD with its problems noted."""
        ...

    def schema(self) -> dict[str, Any]:
        """OpenAPI v3."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A string. `pattern` must mean the same in RE2 and in Python; `says` explains it to whoever got it wrong."""

    pattern: str = ""
    says: str = ""
    longest: int = 253
    shortest: int = 0
    convert: Callable[[str], Any] | None = None  # ValueError tells what is wrong
    cel: str = ""  # what the API server checks where a pattern cannot
    secret: bool = False  # never repeated in a problem

    @property
    def word(self) -> str:
        return "string"

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if not isinstance(value, str):
            return reading.refuse(path, f"must be a string, not {json_type(value)}")
        if not self.shortest <= len(value) <= self.longest:
            return reading.refuse(path, f"must have {self.shortest} to {self.longest} characters, not {len(value)}")
        name = "this" if self.secret else shown(value)
        if self.pattern and not re.fullmatch(self.pattern, value):
            return reading.refuse(path, f"{name} is not {self.says or 'of the form ' + self.pattern}")
        if self.convert is None:
            return value
        try:
            return self.convert(value)
        except ValueError as error:
            return reading.refuse(path, f"{name} is not {self.says or error}")

    def schema(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "string", "maxLength": self.longest}
        if self.shortest:
            made["minLength"] = self.shortest
        if self.pattern:
            made["pattern"] = self.pattern
        if self.cel:
            made["x-kubernetes-validations"] = [{"rule": self.cel, "message": f"must be {self.says}"}]
        return made


@dataclass(frozen=True, slots=True)
class Number:
    """A number between two bounds, both included; whole when `whole`."""

    least: float
    most: float
    whole: bool = False
    above: bool = False  # `least` itself is excluded

    @property
    def word(self) -> str:
        return f"{'integer' if self.whole else 'number'}, {self.bounds}"

    @property
    def bounds(self) -> str:
        low = f"above {self.least:g}" if self.above else f"{self.least:.12g}"
        return f"{low} to {self.most:.12g}"

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            wanted = "a whole number" if self.whole else "a number"
            return reading.refuse(path, f"must be {wanted}, not {json_type(value)}")
        low = value > self.least if self.above else value >= self.least
        if not math.isfinite(value) or not low or value > self.most:
            return reading.refuse(path, f"must be {self.bounds}, not {value:.12g}")
        return value if self.whole else float(value)

    def schema(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        if self.whole:
            made["format"] = "int64" if self.most > 2**31 - 1 else "int32"
        made["minimum"] = int(self.least) if self.least == int(self.least) else self.least
        made["maximum"] = int(self.most) if self.most == int(self.most) else self.most
        if self.above:
            made["exclusiveMinimum"] = True
        return made


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    @property
    def word(self) -> str:
        return "boolean"

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if not isinstance(value, bool):
            return reading.refuse(path, f"must be true or false, not {json_type(value)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values of an enum, or of some numbers."""

    of: type[Enum] | tuple[int, ...]

    @property
    def values(self) -> tuple[str | int, ...]:
        return self.of if isinstance(self.of, tuple) else tuple(str(one.value) for one in self.of)

    @property
    def word(self) -> str:
        return " \\| ".join(str(value) for value in self.values)

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if isinstance(value, bool) or value not in self.values:
            known = ", ".join(str(one) for one in self.values)
            hint = suggestion(str(value), [str(one) for one in self.values])
            return reading.refuse(path, f"must be one of {known}, not {shown(value)}{hint}")
        return value if isinstance(self.of, tuple) else self.of(value)

    def schema(self) -> dict[str, Any]:
        numbers = isinstance(self.of, tuple)
        made: dict[str, Any] = {"type": "integer", "format": "int32"} if numbers else {"type": "string"}
        return made | {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Listing:
    """A list. Scalars are unique; shapes are unique by the field `key`, if one is given."""

    item: Kind
    most: int
    least: int = 0
    key: str = ""
    unique: bool = True  # scalars only

    @property
    def word(self) -> str:
        return f"list of {self.item.word}"

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return reading.refuse(path, f"must be a list, not {json_type(value)}")
        fits = self.least <= len(value) <= self.most
        if not fits:
            reading.refuse(path, f"must have {self.least} to {self.most} entries, not {len(value)}")
        value = value[: self.most]
        read = tuple(self.item.read(one, f"{path}[{index}]", reading) for index, one in enumerate(value))
        self._refuse_repeated(value, path, reading)
        return read if fits else BAD  # refused entries keep their place, for rules that look at the others

    def _refuse_repeated(self, value: Sequence[Any], path: str, reading: Reading) -> None:
        seen: dict[object, int] = {}
        for index, one in enumerate(value):
            if self.key:
                mark, where = (one.get(self.key) if isinstance(one, Mapping) else None), f"[{index}].{self.key}"
            else:
                mark, where = (one if self.unique and isinstance(one, str | int) else None), f"[{index}]"
            if mark is None or isinstance(mark, list | dict):
                continue
            if mark in seen:
                reading.refuse(path + where, f"{shown(mark)} is already at [{seen[mark]}]")
            seen.setdefault(mark, index)

    def schema(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "array", "maxItems": self.most, "items": self.item.schema()}
        if self.least:
            made["minItems"] = self.least
        if self.key:
            made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
        elif isinstance(self.item, Shape) or not self.unique:
            made["x-kubernetes-list-type"] = "atomic"
        else:
            made["x-kubernetes-list-type"] = "set"
        return made


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a shape. The attribute it fills is its name in snake_case, unless `attribute` says otherwise."""

    name: str
    kind: Kind
    help: str
    required: bool = False
    attribute: str = ""
    shown_default: str = ""  # for the manual, where the dataclass's default does not tell

    @property
    def target(self) -> str:
        return self.attribute or _snake_case(self.name)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule over several fields, once as CEL for the API server and once for documents that no API server saw."""

    cel: str
    message: str
    find: Callable[[Values], Iterable[Problem]]  # paths relative to the shape
    at: str = ""  # what the API server blames

    def schema(self) -> dict[str, Any]:
        path = {"fieldPath": f".{self.at}"} if self.at else {}
        return {"rule": self.cel, "message": self.message, **path}


def constraint(at: str, message: str, cel: str, holds: Callable[[Values], bool]) -> Constraint:
    """A rule that holds or not, blamed on the field `at`."""

    def find(values: Values) -> Iterator[Problem]:
        if not holds(values):
            yield Problem(at, message)

    return Constraint(cel, message, find, at)


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with known fields. Without `make` its fields become the parent's own (a group)."""

    fields: tuple[Field, ...]
    make: Callable[..., Any] | None = None
    constraints: tuple[Constraint, ...] = ()
    of: type | None = None  # the dataclass with the defaults, where `make` is not it
    only_files: frozenset[str] = field(default_factory=frozenset)  # not in the CRD

    @property
    def word(self) -> str:
        return "object"

    def read(self, value: object, path: str, reading: Reading) -> Any:
        if not isinstance(value, Mapping):
            return reading.refuse(path, f"must be an object, not {json_type(value)}")
        before = len(reading.problems)
        values = self._values(value, path, reading)
        for rule in self.constraints:
            with contextlib.suppress(Unread):
                for problem in rule.find(values):
                    reading.refuse(join(path, problem.path), problem.text)
        if self.make is None:
            return self.arguments(values)
        return self.make(**self.arguments(values)) if len(reading.problems) == before else Broken(values)

    def arguments(self, values: Given) -> Given:
        """Attribute → value of what was given."""
        found = Given()
        for one in self.fields:
            if one.name not in values:
                continue
            if isinstance(one.kind, Shape) and one.kind.make is None:
                group = dict.__getitem__(values, one.name)
                found.update({} if is_bad(group) else group)
            else:
                found[one.target] = dict.__getitem__(values, one.name)
        return found

    def _values(self, value: Mapping[Any, Any], path: str, reading: Reading) -> Given:
        known = [one.name for one in self.fields if reading.files or one.name not in self.only_files]
        for name in value:
            if name not in known:
                reading.refuse(join(path, str(name)), f"unknown field{suggestion(str(name), known)}")
        values = Given()
        for one in self.fields:
            if one.name not in known:
                continue
            given = value.get(one.name)  # null counts as absent, as it does for the API server
            if given is not None:
                values[one.name] = one.kind.read(given, join(path, one.name), reading)
            elif one.required:
                reading.refuse(join(path, one.name), "is required")
        return values

    def default_of(self, one: Field, parent: Callable[..., Any] | None = None) -> Any:
        """The default of a field, taken from the dataclass; MISSING when it has none."""
        maker = self.of or self.make or parent
        for item in declared(maker) if isinstance(maker, type) else ():
            if item.name == one.target:
                return item.default
        return MISSING

    def schema(self, parent: Callable[..., Any] | None = None) -> dict[str, Any]:
        properties = {}
        for one in self.fields:
            if one.name in self.only_files:
                continue
            group = isinstance(one.kind, Shape) and one.kind.make is None
            inner = (
                one.kind.schema(self.of or self.make) if group and isinstance(one.kind, Shape) else one.kind.schema()
            )
            default = self.default_of(one, parent)
            worth_saying = isinstance(default, Enum | bool | int | float) or (isinstance(default, str) and default)
            if worth_saying and not one.required:
                inner = {**inner, "default": default.value if isinstance(default, Enum) else plain(default)}
            properties[one.name] = {"description": one.help, **inner}
        made: dict[str, Any] = {"type": "object", "properties": properties}
        if required := [one.name for one in self.fields if one.required]:
            made["required"] = required
        rules = [rule.schema() for rule in self.constraints if rule.cel]
        if rules:
            made["x-kubernetes-validations"] = rules
        return made


def join(path: str, name: str) -> str:
    if not path or not name:
        return path or name
    return f"{path}{name}" if name.startswith("[") else f"{path}.{name}"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def plain(value: float | str) -> float | str:
    """5.0 → 5: how people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def suggestion(word: str, known: Sequence[str]) -> str:
    """` (did you mean x?)`, or nothing."""
    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), list(lower), 1, 0.7)
    return f" (did you mean {lower[close[0]]}?)" if close else ""


def shown(value: object) -> str:
    """A value inside a message: quoted, and short."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def json_type(value: object) -> str:
    """What a person calls this type in a document."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, Sequence) else "something else"
