"""Files that hold data, keys or secrets: readable by their owner only, whatever the umask.

Invariant: no other user has a replaced file open when it is written, because the old one is removed and a new one made.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE: Final = 0o600


def create_private(path: str | os.PathLike[str], *, replace: bool = False) -> BinaryIO:
    """A new file to write, with mode 0600. `replace`: instead of one that is there; else FileExistsError. OSError."""
    if replace:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def make_private_directory(path: Path) -> None:
    """The directory and every missing one above it, with mode 0700; those that are there stay as they are. OSError."""
    if not path.is_dir():
        make_private_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor of a file that is created with mode 0600 if it is not there; an `opener` for `open`. OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, PRIVATE)
    try:
        if flags & os.O_EXCL:
            os.fchmod(descriptor, PRIVATE)  # the umask may have taken the owner's own rights
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
