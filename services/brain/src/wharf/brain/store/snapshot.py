"""Snapshot files: is one whole, and making a store of it.

A snapshot file is a store file as `Engine.backup` writes it; what came over Maintenance.Snapshot (`etcdctl snapshot
save`) is padded to a multiple of 512 bytes and followed by its SHA-256, as etcd's own are. Restoring makes a new
store in a new directory, or in an empty engine of any kind, with new ids, so that nothing takes it for the old one.
Blocking: for tools.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from wharf.brain.engine.base import (
    META_EPOCH,
    META_FORMAT,
    META_LEASE,
    META_REVISION,
    Batch,
    Engine,
    EngineCorrupt,
    EngineError,
    EngineFull,
    Table,
    Write,
)
from wharf.brain.engine.lmdb import LmdbEngine, LmdbSnapshot
from wharf.brain.engine.lmdb_dir import check_file, open_read_only, publish, sync_file
from wharf.brain.store.filling import Filling
from wharf.brain.store.hashing import KvHash, hash_kv, verify
from wharf.brain.store.keys import META_CLUSTER, META_COMPACT, META_MEMBER, META_UNFINISHED, encode_u64, parse_u64
from wharf.common.private_files import create_private

DIGEST = 32  # bytes of the SHA-256 at the end of a file with one
ALIGNMENT = 512
PIECE = 1 << 20
RESTORED = 0  # origin of a store filled from a file: no cluster has this id
_OF_ITS_OWN = frozenset(
    (META_FORMAT, META_REVISION, META_EPOCH, META_LEASE, META_CLUSTER, META_MEMBER, META_UNFINISHED)
)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a good snapshot file holds."""

    revision: int
    keys: int
    size: int  # bytes of the store in it
    digest: bool  # whether it carries a checksum
    kv_hash: KvHash


def check(path: str | Path) -> SnapshotInfo:
    """Whether a snapshot file is whole: checksum, pages, and that log, present and history agree. EngineCorrupt."""
    path = Path(path)
    if not path.is_file():
        raise EngineError(f"no snapshot at {path}")
    has_digest = path.stat().st_size % ALIGNMENT == DIGEST
    if has_digest:
        _check_digest(path)
    try:
        check_file(path, whole=True)
    except EngineCorrupt as error:
        raise EngineCorrupt(
            f"{path} is no snapshot of brain, or is damaged: give a file written by `wharf brain snapshot save` or by "
            "`etcdctl snapshot save` from a brain (for a snapshot of etcd: start etcd on it, then `wharf brain import`)"
        ) from error
    snapshot = LmdbSnapshot(open_read_only(path))
    try:
        complaints = verify(snapshot)
        if complaints:
            raise EngineCorrupt(f"{path} contradicts itself: {'; '.join(complaints)}")
        size = path.stat().st_size - (DIGEST if has_digest else 0)
        return SnapshotInfo(snapshot.revision, snapshot.entries(Table.NOW), size, has_digest, hash_kv(snapshot))
    finally:
        snapshot.close()


def restore(path: str | Path, directory: str | Path, bump_revision: int = 0) -> SnapshotInfo:
    """Make a store in `directory`, which must be new or empty, from a snapshot file.

    `bump_revision`: go on that many revisions later and compact there, so that clients which saw revisions after the
    snapshot was taken start over instead of taking new changes for ones they know.
    """
    info = check(path)
    directory = Path(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise EngineError(f"{directory} is not empty; restore into a new directory")
    aside = directory / "store-1.mdb.new"
    try:
        _copy(Path(path), aside, info.size)
        publish(aside, directory / "store-1.mdb")
        _start_afresh(directory, bump_revision)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise EngineFull(f"cannot restore into {directory}: {error}") from error
    return info


async def restore_into(path: str | Path, engine: Engine, bump_revision: int = 0) -> SnapshotInfo:
    """As `restore`, into an engine that nobody has written to; its ids are its own. EngineError."""
    info = check(path)
    filling = Filling(engine, RESTORED)
    snapshot = LmdbSnapshot(open_read_only(Path(path)))
    try:
        await filling.begin()
        for table in (Table.NOW, Table.HISTORY, Table.LOG):
            await filling.rows((table, key, value) for key, value in snapshot.scan(table, b"", None))
        meta = {key: value for key, value in snapshot.scan(Table.META, b"", None) if key not in _OF_ITS_OWN}
    finally:
        snapshot.close()
    if bump_revision:
        meta[META_COMPACT] = encode_u64(info.revision + bump_revision)
    await filling.finish([(Table.META, key, value) for key, value in meta.items()], info.revision + bump_revision)
    return info


def _start_afresh(directory: Path, bump_revision: int) -> None:
    engine = LmdbEngine(directory, create=False)
    try:
        snapshot = engine.snapshot()
        epoch, revision = parse_u64(snapshot.get(Table.META, META_EPOCH)), snapshot.revision
        snapshot.close()
        writes: list[Write] = [(Table.META, name, None) for name in (META_CLUSTER, META_MEMBER, META_LEASE)]
        if bump_revision:
            writes.append((Table.META, META_COMPACT, encode_u64(revision + bump_revision)))
        engine.commit(Batch(epoch, revision, revision + bump_revision, writes))
    finally:
        engine.close()


def _check_digest(path: Path) -> None:
    left = path.stat().st_size - DIGEST
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left:
            piece = file.read(min(PIECE, left))
            digest.update(piece)
            left -= len(piece)
        if file.read() != digest.digest():
            raise EngineCorrupt(
                f"{path} does not match its checksum: it was cut short or changed; take another snapshot"
            )


def _copy(source: Path, target: Path, size: int) -> None:
    with source.open("rb") as file, create_private(target) as out:
        while size:
            piece = file.read(min(PIECE, size))
            out.write(piece)
            size -= len(piece)
    sync_file(target)
