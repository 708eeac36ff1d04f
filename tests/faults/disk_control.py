"""The test's side of `disk_faults.c`: the preloaded library that makes file operations of a process fail."""

from __future__ import annotations

import mmap
import struct
import subprocess
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("=6i")
_SIZE: Final = 4096
SOURCE: Final = Path(__file__).with_name("disk_faults.c")
EVER: Final = (1 << 31) - 1
HALF: Final = 0  # in the place of an errno: a write stores half of its bytes


class Kind(IntFlag):
    """Operations that can fail, as in `disk_faults.c`."""

    DATA = 1
    META = 2
    SYNC = 4
    SIZE = 8
    RENAME = 16


ANY: Final = Kind(31)


@dataclass(frozen=True, slots=True)
class Counts:
    operations: int
    failed: int


class Control:
    """Which operations fail; takes effect at once, in every process that has mapped the file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def fail(self, prefix: Path, first: int, last: int, error: int, kinds: Kind = ANY) -> None:
        """The operations `first` to `last` from now on, on files below `prefix`, fail with `error`."""
        self.stop()
        name = bytes(prefix) + b"\0"
        self._map[_HEAD.size : _HEAD.size + len(name)] = name
        self._map[: _HEAD.size] = _HEAD.pack(first, last, error, 0, 0, kinds)

    def stop(self) -> Counts:
        """Nothing fails any more; what happened since `fail`."""
        _, _, _, operations, failed, _ = _HEAD.unpack(self._map[: _HEAD.size])
        self._map[: _HEAD.size] = bytes(_HEAD.size)
        return Counts(operations, failed)


def build_library(folder: Path) -> Path:
    """The compiled library."""
    library = folder / "disk_faults.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
