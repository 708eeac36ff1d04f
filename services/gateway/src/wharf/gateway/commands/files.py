"""Documents named on a command line, for the commands that read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wharf.gateway.api.documents import BYTES_MAX, load_documents
from wharf.gateway.sources.files import FileUnusable, document_files, read_file

STDIN: Final = "-"


class Unreadable(Exception):
    """A file that cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """The documents of one file."""

    label: str  # for messages: its path, or "standard input"
    folder: Path  # what the files it refers to are relative to
    documents: tuple[Mapping[str, Any], ...]


def read_files(names: Sequence[str], unreadable: list[str]) -> Iterator[DocumentFile]:
    """The files that a command names; of a directory those that the gateway would read; standard input without a name.

    Each file that cannot be read adds a line to `unreadable`, and the others are read all the same.
    """
    for name in names or (STDIN,):
        try:
            paths = document_files(Path(name)) if name != STDIN and Path(name).is_dir() else [None]
            if not paths:
                unreadable.append(f"{name}: holds no *.yaml, *.yml or *.json file")
        except OSError as error:
            unreadable.append(f"{name}: {error.strerror}")
            continue
        for path in paths:
            label = name if path is None else str(path)
            try:
                content = _named(name) if path is None else read_file(path, BYTES_MAX)
                documents = load_documents(_text(content))
            except OSError as error:
                unreadable.append(f"{label}: {error.strerror}")
            except ValueError as error:
                unreadable.append(f"{label}: {error}")
            else:
                folder = Path() if label == STDIN else Path(label).parent
                yield DocumentFile("standard input" if label == STDIN else label, folder, tuple(documents))


def name_of(document: Mapping[str, Any]) -> str:
    """What messages call a document."""
    metadata = document.get("metadata")
    named = metadata.get("name") if isinstance(metadata, Mapping) else None
    return str(named or "a document without a name")


def _named(name: str) -> bytes:
    """A file that the user names may be a pipe; only its length is bounded."""
    if name == STDIN:
        return sys.stdin.read(BYTES_MAX + 1).encode()
    with Path(name).open("rb") as file:
        return file.read(BYTES_MAX + 1)


def _text(content: bytes) -> str:
    if len(content) > BYTES_MAX:
        raise FileUnusable(f"is larger than {BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FileUnusable("is not UTF-8 text") from error
