"""`wharf gateway convert [FILE…] [-o DIR]`: KubeGateway's UpstreamClusters into ours.

Warnings and refusals go to standard error. With `-o` every cluster becomes a file of its own, readable by its owner
only, because keys are inside; otherwise all go to standard output. Exit code 1 when a document was refused, the others
are converted all the same, or when there is none to convert; 2 for a wrong command line or a file that cannot be read,
and then nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from wharf.common.private_files import create_private
from wharf.gateway.api.convert import Converted, convert, is_theirs
from wharf.gateway.api.kubegateway import API_VERSION
from wharf.gateway.api.parse import Invalid
from wharf.gateway.api.shapes import KIND
from wharf.gateway.commands.files import name_of, read_files

_DESCRIPTION = "Turns KubeGateway's UpstreamCluster documents (proxy.kubegateway.io/v1alpha1) into the gateway's own."


class _Dumper(yaml.SafeDumper):
    """Text of several lines (PEM) stays readable."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def run(argv: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("wharf gateway convert", description=_DESCRIPTION)
    parser.add_argument(
        "path", nargs="*", help="a directory, or files of YAML or JSON, several documents each; standard input without"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write a file per cluster into this directory")
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    refused = False
    converted: list[Converted] = []
    unreadable: list[str] = []
    for file in read_files(options.path, unreadable):
        for document in file.documents:
            where = f"{file.label}: {name_of(document)}"
            if not is_theirs(document):
                _say(where, "is no UpstreamCluster of KubeGateway; passed over")
                continue
            try:
                converted.append(convert(document))
            except Invalid as invalid:
                refused = True
                for problem in invalid.problems:
                    _say(where, f"refused: {problem}")
                continue
            for warning in converted[-1].warnings:
                _say(where, f"warning: {warning}")
    if unreadable:
        for line in unreadable:
            _say("wharf gateway convert", line)
        return 2
    if not converted and not refused:
        _say("wharf gateway convert", f"there is nothing to convert: no document is of {API_VERSION}, kind {KIND}")
        return 1
    try:
        _write(converted, options.output)
    except OSError as error:
        print(f"wharf gateway convert: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 1 if refused else 0


def _say(where: str, text: str) -> None:
    print(f"{where}: {text}", file=sys.stderr)


def _write(converted: Sequence[Converted], folder: Path | None) -> None:
    if folder is None:
        sys.stdout.write("---\n".join(_text(one.document) for one in converted))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for one in converted:
        path = folder / f"{one.document['metadata']['name']}.yaml"
        with create_private(path, replace=True) as file:
            file.write(_text(one.document).encode())


def _text(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
