"""Configuration of a service: one frozen dataclass, filled from flags, environment, a file and defaults.

A service declares its options once, as fields with `option(...)`; flag names, environment names, file keys, help and
errors follow from that. Precedence: flag, then environment, then file, then default. Flags are read as Go reads them
(`--flag value`, `--flag=value`, one dash or two; a boolean takes its value only with `=`), because people bring etcd's
command lines along.

Invariant: `load` either returns a complete object or raises ConfigError naming every problem with its key, its source
and what is allowed; a secret's value is in no message.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from wharf.common.config_help import render_help
from wharf.common.parsers import BadValue
from wharf.common.redact import HIDDEN, hide_password_in_value
from wharf.common.schema import FILE_FLAG, Config, Ignored, Option, Schema, option, show

__all__ = [
    "Config",
    "ConfigError",
    "HelpRequested",
    "Ignored",
    "Loaded",
    "Option",
    "Schema",
    "check_files",
    "exit_code",
    "load",
    "option",
    "show_traceback",
]

C = TypeVar("C", bound=Config)

_DEBUG_FLAG: Final = "--debug"
_debug: ContextVar[bool] = ContextVar("debug", default=False)


class ConfigError(Exception):
    """Settings that cannot be used; `problems` holds one line each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class HelpRequested(Exception):
    """`--help` was among the flags; `text` is the answer."""

    exit_code = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """A configuration and where it came from."""

    config: C
    sources: Mapping[str, str]  # flag → "--flag", an environment name, a file name or "default"
    warnings: tuple[str, ...]  # one line each, for the log
    arguments: tuple[str, ...]
    shown: Mapping[str, str]  # flag → value as text, secrets hidden


@dataclass(frozen=True, slots=True)
class _Given:
    text: str
    source: str


def load(schema: Schema[C], argv: Sequence[str], environ: Mapping[str, str]) -> Loaded[C]:
    """The configuration that flags, environment and the file they name add up to; ConfigError or HelpRequested."""
    options = schema.options()
    problems: list[str] = []
    warnings: list[str] = []
    flags, arguments = _read_flags(schema, options, argv, problems, warnings)
    given = dict(flags)
    env = dict(_read_environment(schema, options, environ, warnings))
    for flag, value in env.items():
        given.setdefault(flag, value)
    file = flags.get(FILE_FLAG) or env.get(FILE_FLAG) or _environment_file(schema, environ)
    given.pop(FILE_FLAG, None)
    if file is not None and file.text:
        for flag, value in _read_file(schema, options, file, problems, warnings):
            given.setdefault(flag, value)
    values, shown = _parse(options, given, problems)
    if len(arguments) != len(schema.arguments):
        wanted = " ".join(schema.arguments) or "no arguments"
        problems.append(f"{schema.program} takes {wanted}, got {' '.join(map(repr, arguments)) or 'none'}")
    if problems:
        raise ConfigError(*problems)
    try:
        config = schema.shape(**values)
    except ValueError as wrong:  # a rule between fields, from __post_init__
        raise ConfigError(str(wrong)) from wrong
    sources = {flag: given[flag].source if flag in given else "default" for flag in options}
    return Loaded(config, sources, tuple(warnings), tuple(arguments), shown)


def check_files(schema: Schema[C], config: C) -> None:
    """ConfigError names every file among the settings that is missing or cannot be read."""
    problems = []
    for flag, (item, spec) in schema.options().items():
        value = getattr(config, item.name)
        for path in () if value is None else spec.parser.files(value):
            if why := _unreadable(path):
                problems.append(f"--{flag}: {str(path)!r} cannot be read: {why}; name a file that this user may read")
    if problems:
        raise ConfigError(*problems)


def _unreadable(path: Path) -> str:
    try:
        if not path.stat() or not path.is_file():
            return "it is not a regular file"
    except OSError as error:
        return error.strerror or type(error).__name__
    return "" if os.access(path, os.R_OK) else "permission denied"


def exit_code(program: str, argv: Sequence[str], work: Callable[[Sequence[str]], int]) -> int:
    """The exit code of `work(argv)`; 2 and a line per problem on stderr for ConfigError, 0 for HelpRequested.

    `--debug` is taken out of `argv`. With it, or with WHARF_DEBUG in the environment, tracebacks of errors are shown.
    """
    words = [word for word in argv if word != _DEBUG_FLAG]
    token = _debug.set(len(words) < len(argv) or bool(os.environ.get("WHARF_DEBUG")))
    try:
        return work(words)
    except HelpRequested as help_:
        sys.stdout.write(help_.text)
        return help_.exit_code
    except ConfigError as error:
        sys.stderr.write("".join(f"{program}: {problem}\n" for problem in error.problems))
        show_traceback()
        return error.exit_code
    finally:
        _debug.reset(token)


def show_traceback() -> None:
    """Print the traceback of the error being handled, if the user asked for it."""
    if _debug.get():
        traceback.print_exc()


def _environment_file(schema: Schema[C], environ: Mapping[str, str]) -> _Given | None:
    name = schema.env_name(FILE_FLAG)
    return _Given(environ[name], name) if environ.get(name) else None


def _read_flags(
    schema: Schema[C],
    options: Mapping[str, tuple[Field[Any], Option]],
    argv: Sequence[str],
    problems: list[str],
    warnings: list[str],
) -> tuple[dict[str, _Given], list[str]]:
    ignored = {item.flag: item for item in schema.ignored}
    given: dict[str, _Given] = {}
    arguments: list[str] = []
    words: Iterator[str] = iter(argv)
    while (word := next(words, None)) is not None:
        if word == "--":
            arguments.extend(words)
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
        if name in ("help", "h"):
            raise HelpRequested(render_help(schema))
        known = name in options or name in ignored or name == FILE_FLAG
        if not known:
            problems.append(f"unknown flag --{name}{_suggest(name, [*options, FILE_FLAG], '--')}")
            words = _skip_value(words, equals)
            continue
        switch = options[name][1].parser.switch if name in options else name in ignored and ignored[name].switch
        if not equals and switch:
            text = "true"
        elif not equals:
            following = next(words, None)
            if following is None:
                problems.append(f"--{name} needs a value")
                continue
            text = following
        if name in ignored:
            warnings.append(f"--{name} is accepted and ignored: {ignored[name].why}")
        else:
            given[name] = _Given(text, f"--{name}")
    return given, arguments


def _skip_value(words: Iterator[str], equals: str) -> Iterator[str]:
    """The words after an unknown flag without what looks like its value, which is no problem of its own."""
    if equals:
        return words
    following = next(words, None)
    return words if following is None or not following.startswith("-") else chain((following,), words)


def _read_environment(
    schema: Schema[C],
    options: Mapping[str, tuple[Field[Any], Option]],
    environ: Mapping[str, str],
    warnings: list[str],
) -> Iterator[tuple[str, _Given]]:
    """Names that are no option are left alone: Kubernetes sets WHARF_BRAIN_PORT and others for a Service."""
    names = {schema.env_name(flag): flag for flag in (*options, FILE_FLAG)}
    prefix = schema.env_name("")
    for name, text in environ.items():
        if name in names:
            yield names[name], _Given(text, name)
        elif name.startswith(prefix) and (close := difflib.get_close_matches(name, names, 1, 0.9)):
            warnings.append(f"environment {name} is not read; did you mean {close[0]}?")
    for flag, (_, spec) in options.items():
        if spec.env and spec.env in environ and schema.env_name(flag) not in environ:
            yield flag, _Given(environ[spec.env], spec.env)


def _read_file(
    schema: Schema[C],
    options: Mapping[str, tuple[Field[Any], Option]],
    file: _Given,
    problems: list[str],
    warnings: list[str],
) -> Iterator[tuple[str, _Given]]:
    """Keys are flag names, dashes or underscores; a section named in the schema puts its prefix before its keys."""
    ignored = {item.flag: item for item in schema.ignored}
    for key, value in _flatten(schema, _read_document(Path(file.text), file.source)):
        flag = key.replace("_", "-")
        if flag in ignored:
            warnings.append(f"{key} in {file.text} is accepted and ignored: {ignored[flag].why}")
        elif flag not in options:
            problems.append(f"unknown key {key} in {file.text}{_suggest(flag, list(options), '')}")
        elif (text := _file_text(value)) is None:
            problems.append(f"{key} in {file.text} is not a plain value; allowed: {options[flag][1].parser.allowed}")
        else:
            yield flag, _Given(text, file.text)


def _read_document(path: Path, source: str) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            document: object = tomllib.loads(text)
        else:
            import yaml  # noqa: PLC0415 most processes never read a file

            document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path} (from {source}) cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML and text encoding
        raise ConfigError(f"{path} (from {source}): {error}") from error
    except Exception as error:  # YAML's own family of errors, known only once yaml is imported
        raise ConfigError(f"{path} (from {source}): {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path} (from {source}) is not a table of keys and values")
    return {str(key): value for key, value in document.items()}


def _flatten(schema: Schema[C], document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if isinstance(value, Mapping) and key in schema.sections:
            for inner, item in value.items():
                yield f"{schema.sections[key]}{inner}", item
        else:
            yield key, value


def _file_text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        texts = [_file_text(item) for item in value]
        return None if None in texts else ",".join(text for text in texts if text is not None)
    return "" if value is None else None


def _parse(
    options: Mapping[str, tuple[Field[Any], Option]], given: Mapping[str, _Given], problems: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    shown: dict[str, str] = {}
    for flag, (item, spec) in options.items():
        value = item.default if item.default is not MISSING else None
        if flag in given:
            text, source = given[flag].text, given[flag].source
            try:
                value = spec.parser.parse(text)
            except BadValue as wrong:
                what = HIDDEN if spec.secret else repr(hide_password_in_value(text))
                where = "" if source == f"--{flag}" else f" (from {source})"
                problems.append(f"--{flag}: {what}{where} {wrong}; allowed: {spec.parser.allowed}")
                continue
        values[item.name] = value
        shown[flag] = show(spec, value)
    return values, shown


def _suggest(name: str, known: Sequence[str], dashes: str) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {dashes}{close[0]}?" if close else ""
