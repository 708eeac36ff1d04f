"""Documents named on a command line, for the commands that read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wharf.gateway.api.documents import load_documents


class Unreadable(Exception):
    """A file that cannot be read; the text names it."""


def documents_of(names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, document) of every document of the files, standard input for `-` or without a name; Unreadable."""
    for name in names or ("-",):
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text()
            found = load_documents(text)
        except OSError as error:
            raise Unreadable(f"{name}: {error.strerror}") from error
        except ValueError as error:
            raise Unreadable(f"{name}: {error}") from error
        for document in found:
            metadata = document.get("metadata")
            named = metadata.get("name") if isinstance(metadata, Mapping) else None
            yield f"{'standard input' if name == '-' else name}: {named or 'a document without a name'}", document
