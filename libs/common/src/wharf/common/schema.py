"""How a service declares its settings: one frozen dataclass whose fields are options.

Flag names, environment names, file keys, help and errors all follow from this declaration. Pure shapes; reading
settings is config.py's, describing them config_help.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast

from wharf.common.parsers import Parser
from wharf.common.redact import HIDDEN, hide_password

C = TypeVar("C", bound="Config")
V = TypeVar("V")
D = TypeVar("D")

_OPTION: Final = "wharf.option"
FILE_FLAG: Final = "config-file"


class Config(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclass(frozen=True, slots=True)
class Option:
    """What a field of a configuration dataclass says about itself."""

    parser: Parser[Any]
    help: str
    group: str
    flag: str | None
    secret: bool
    env: str | None


def option(
    parser: Parser[V],
    default: D,
    *,
    help: str,
    group: str = "General",
    flag: str | None = None,
    secret: bool = False,
    env: str | None = None,
) -> V | D:
    """A field of a configuration dataclass.

    `flag`: its name where it is not the field's name with dashes. `env`: one more environment name that is read when
    the regular one is not set (OTEL_EXPORTER_OTLP_ENDPOINT and the like). `secret`: never printed.
    """
    metadata = {_OPTION: Option(parser, help, group, flag, secret, env)}
    return cast("V | D", field(default=default, metadata=metadata, repr=not secret))


@dataclass(frozen=True, slots=True)
class Ignored:
    """A flag of somebody else's program that is accepted and has no meaning here."""

    flag: str
    why: str
    switch: bool = False  # takes no value


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(Generic[C]):
    """A program's whole command line."""

    shape: type[C]
    program: str  # "wharf brain"
    service: str  # "brain": environment names begin with WHARF_BRAIN_
    summary: str
    ignored: Sequence[Ignored] = ()
    sections: Mapping[str, str] = field(default_factory=dict)  # file section → prefix of the flags inside it
    arguments: Sequence[str] = ()  # names of positional arguments, all required
    epilog: str = ""

    def options(self) -> dict[str, tuple[Field[Any], Option]]:
        """Flag name → field, in order of declaration."""
        found: dict[str, tuple[Field[Any], Option]] = {}
        for item in fields(self.shape):
            spec = cast(Option, item.metadata[_OPTION])
            found[spec.flag or item.name.replace("_", "-")] = (item, spec)
        return found

    def env_name(self, flag: str) -> str:
        return f"WHARF_{self.service}_{flag}".upper().replace("-", "_").replace(".", "_")


def show(spec: Option, value: object) -> str:
    """A value as text for people: secrets hidden, an unset one empty."""
    if value is None:
        return ""
    if spec.secret:
        return HIDDEN if value else ""
    return hide_password(spec.parser.show(value))
