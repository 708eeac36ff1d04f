"""Files that hold data, keys or secrets: readable by their owner only, whatever the umask."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

PRIVATE: Final = 0o600


def create_private(path: str | os.PathLike[str], *, replace: bool = False) -> BinaryIO:
    """A new file to write, with mode 0600. `replace`: empty one that is there; else FileExistsError. OSError."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if replace else os.O_EXCL), PRIVATE
    )
    os.fchmod(descriptor, PRIVATE)  # one that was there may have been more open
    return open(descriptor, "wb")
