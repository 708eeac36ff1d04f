"""The directory of an embedded system: what lies where, and that nobody else can read it.

    DIR/kubeconfig        the administrator's way in
    DIR/clusters/         what the gateway serves: wharf.yaml, and whatever else is put there
    DIR/pki/              authorities, certificates, keys
    DIR/data/brain/       the store
    DIR/logs/<part>.log   one per part, and supervisor.log
    DIR/run/              state file and lock while it runs

Invariant: DIR is 0700 and ours; a directory that holds somebody else's files is refused, not adopted.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wharf.common.private_files import open_private

_OURS: Final = frozenset(("kubeconfig", "clusters", "pki", "data", "logs", "run"))
_LARGE_LOG: Final = 64 * 1024 * 1024  # bytes; a log past it is set aside at the next start


class LayoutError(Exception):
    """The directory cannot be used; the message says why and what to do."""


def default_root() -> Path:
    """One system per user, found from any working directory."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "wharf"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under one root, which is absolute."""

    root: Path

    @property
    def flags(self) -> str:
        """Flags with which another command finds this system, a space before each; empty for the default place."""
        return "" if self.root == default_root() else f" --dir {shlex.quote(str(self.root))}"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def clusters(self) -> Path:
        return self.root / "clusters"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def state(self) -> Path:
        return self.root / "run" / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "run" / "lock"

    def log(self, part: str) -> Path:
        return self.root / "logs" / f"{part}.log"

    def make(self) -> None:
        """Make what is missing, private; LayoutError when the place is not ours."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.root.stat().st_uid != os.getuid():
                raise LayoutError(f"{self.root} belongs to another user; choose a directory of your own with --dir")
            strangers = sorted(path.name for path in self.root.iterdir() if path.name not in _OURS)
            if strangers:
                raise LayoutError(
                    f"{self.root} holds other files ({', '.join(strangers[:3])}); "
                    "choose an empty or new directory with --dir"
                )
            self.root.chmod(0o700)
            for name in ("clusters", "pki", "data", "logs", "run"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LayoutError(f"{error.filename or self.root} cannot be used: {error.strerror}") from error

    def fresh_log(self, part: str) -> Path:
        """The log file of a part about to start; a large one is kept as .1, in place of the one before it."""
        path = self.log(part)
        if path.exists() and path.stat().st_size > _LARGE_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path

    def claim(self) -> int | None:
        """The system's lock, as a file descriptor to keep open while it runs; None when another run has it."""
        handle = open_private(self.lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
