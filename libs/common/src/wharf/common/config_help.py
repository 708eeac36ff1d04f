"""The `--help` text of a configuration schema, meant to be learned from: grouped, each option with its default.

Pure: a schema in, a text out.
"""

from __future__ import annotations

import textwrap
from typing import TypeVar

from wharf.common.schema import FILE_FLAG, Config, Option, Schema, show

C = TypeVar("C", bound=Config)

_WIDTH = 100
_INDENT = 6


def render_help(schema: Schema[C]) -> str:
    """Usage, summary, the options by group in order of declaration, then how settings combine."""
    usage = " ".join((schema.program, "[flags]", *schema.arguments))
    blocks = [f"Usage: {usage}", _wrap(schema.summary)]
    groups: dict[str, list[str]] = {}
    for flag, (item, spec) in schema.options().items():
        groups.setdefault(spec.group, []).append(_option(flag, spec, show(spec, item.default)))
    blocks.extend(f"{group}\n" + "\n".join(entries) for group, entries in groups.items())
    example = schema.env_name(next(iter(schema.options()), "flag"))
    blocks.append(
        _wrap(
            f"Settings are taken from flags, then from the environment ({example} for the first flag above), then "
            f"from the TOML or YAML file named by --{FILE_FLAG}, whose keys are the flags' names."
        )
    )
    if schema.ignored:
        names = ", ".join(f"--{item.flag}" for item in schema.ignored)
        blocks.append(_wrap(f"Accepted and without effect: {names}."))
    if schema.epilog:
        blocks.append(_wrap(schema.epilog))
    return "\n\n".join(blocks) + "\n"


def _option(flag: str, spec: Option, default: str) -> str:
    head = f"  --{flag}" if spec.parser.switch else f"  --{flag} {spec.parser.name}"
    notes = [note for note in (f"default {default}" if default and default != "false" else "", _extra(spec)) if note]
    text = spec.help + (f" ({'; '.join(notes)})" if notes else "")
    return f"{head}\n{textwrap.indent(textwrap.fill(text, _WIDTH - _INDENT), ' ' * _INDENT)}"


def _extra(spec: Option) -> str:
    return f"also {spec.env}" if spec.env else ""


def _wrap(text: str) -> str:
    return "\n\n".join(textwrap.fill(paragraph, _WIDTH) for paragraph in text.split("\n\n"))
