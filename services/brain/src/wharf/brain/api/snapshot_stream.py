"""One Maintenance.Snapshot call: a consistent copy of the store, sent as fast as its reader takes it.

The copy is written beside the store by a worker thread and has no name once it is open, so nothing is left behind
whatever happens to the call. After the copy comes its SHA-256, as etcd sends it; clients check it and cut it off.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wharf.brain.api.pb import rpc
from wharf.wire.rpc import Call

PIECE = 32 * 1024  # etcd's
ALIGNMENT = 512
"""Clients tell a copy with a checksum from one without by the size being 32 beyond a multiple of this."""


class SnapshotStream:
    def __init__(self, backup: Callable[[str], None], directory: Path | None, version: str, call: Call) -> None:
        """`backup` writes the copy to a path, blocking; `directory`: where (None: the temporary one)."""
        self._backup = backup
        self._directory = directory
        self._version = version
        self._call = call
        self._digest = hashlib.sha256()

    async def run(self) -> None:
        """Make the copy, then send it. Cancel-safe: the file is gone in any case."""
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        self._call.on_drain = writable.set
        with await loop.run_in_executor(None, self._copy) as file:
            left = os.fstat(file.fileno()).st_size
            while left:
                piece = await loop.run_in_executor(None, file.read, PIECE)
                left -= len(piece)
                self._digest.update(piece)
                self._send(piece, left)
                while not self._call.writable:
                    writable.clear()
                    await writable.wait()
        self._send(self._digest.digest(), 0)

    def _copy(self) -> BinaryIO:
        """The copy, open and already unlinked."""
        with tempfile.TemporaryDirectory(prefix="snapshot-", dir=self._directory) as directory:
            path = os.path.join(directory, "copy")
            self._backup(path)
            size = os.path.getsize(path)
            if size % ALIGNMENT:
                os.truncate(path, size + ALIGNMENT - size % ALIGNMENT)
            return open(path, "rb")

    def _send(self, piece: bytes, left: int) -> None:
        message = rpc.SnapshotResponse(remaining_bytes=left, blob=piece, version=self._version)
        self._call.send(message.SerializeToString())
