"""Reads the files of a directory source: documents, and the certificates and keys that they name.

Invariant: a read ends, and is bounded. Only regular files are read, so that a FIFO does not block, a device does not
feed bytes for ever, and opening one has no side effect.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class FileUnusable(ValueError):
    """A file that cannot be read; the text says why, without its name: "is empty"."""


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file, 1 to `most` bytes; FileUnusable when it is anything else."""
    try:
        _refuse_irregular(path.stat().st_mode)
        with open(path, "rb", opener=_open_nonblocking) as file:
            _refuse_irregular(os.fstat(file.fileno()).st_mode)  # it may be another one than a moment ago
            content = file.read(most + 1)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise FileUnusable(reason) from error
    if len(content) > most:
        raise FileUnusable(f"is larger than {most} bytes")
    if not content.strip():
        raise FileUnusable("is empty")
    return content


def document_files(folder: Path) -> list[Path]:
    """The files of a directory that hold documents, in order of their names; OSError when it cannot be listed."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    return [folder / name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _refuse_irregular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of another kind")
        raise FileUnusable(f"is {kind}, not a regular file")
