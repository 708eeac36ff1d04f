"""The directory an LMDB store lives in: which file is the store, who may open it, how it is made and replaced.

Files appear under their final name only when complete (written aside, synced, renamed), so a file that is there is a
whole store; a short or strange one was damaged from outside and is refused with a hint instead of being made anew.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import struct
import time
from pathlib import Path
from typing import NamedTuple

from wharf.brain.engine._lmdb import CORRUPT, Env, LmdbError, ReadTxn, describe
from wharf.brain.engine._pages import BadPage, check_pages
from wharf.brain.engine.base import (
    FIRST_REVISION,
    FORMAT,
    META_FORMAT,
    EngineCorrupt,
    EngineError,
    EngineFailed,
    EngineFull,
    EngineLocked,
    Table,
)
from wharf.common.private_files import open_private

TABLES = tuple(table.name.lower().encode() for table in sorted(Table))
CHECKED_WHOLE = frozenset({b"meta", b"now"})  # tables that start-up reads whole anyway
MAX_READERS = 1024
HEIRS_SECONDS = 5.0  # for who inherited the lock of a process that is dead to end
PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
NAME = re.compile(r"store-(\d+)\.mdb")
ROOMIEST_MAP = 1 << 44  # 16 TiB of address space, an eighth of what x86-64 has
MAGIC = 0xBEEFC0DE
PAGE_HEADER = 16  # bytes before the meta record on a meta page
META_RECORD = struct.Struct(
    "<IIQQ48s48sQQ"
)  # magic, version, address, map size, free db, main db, last page, transaction


def lock(directory: Path, create: bool) -> int:
    """File descriptor whose lock keeps other processes out of the store; EngineLocked when one is in.

    Whoever inherits the descriptor holds the lock too: processes that read for one which was killed still hold it for
    the moment they outlive it, and are waited for.
    """
    if create:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not directory.is_dir():
        raise EngineError(f"no store at {directory}")
    if (directory / "member" / "snap").is_dir():
        raise EngineError(
            f"{directory} is an etcd data directory; choose another; `wharf brain import` carries its content over"
        )
    fd = open_private(directory / "LOCK", os.O_RDWR | os.O_CREAT)
    until = time.monotonic() + HEIRS_SECONDS
    while not _locked(fd):
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        if time.monotonic() > until or not _is_dead(holder):
            os.close(fd)
            raise EngineLocked(f"{directory} is in use by another brain (process {holder}); stop it first")
        time.sleep(0.01)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(fd)
        raise _named(error, directory / "LOCK") from error
    return fd


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_dead(process: str) -> bool:
    """Whether it is over, its parent's knowledge of that or not."""
    if not process.isdecimal():
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][:1] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def roomy_map(directory: Path) -> int:
    """Map size that the disk cannot outgrow: four times its size, in whole GiB."""
    disk = os.statvfs(directory)
    wanted = 4 * disk.f_blocks * disk.f_frsize
    return min(ROOMIEST_MAP, max(wanted, 1 << 36)) >> 30 << 30


def open_newest(directory: Path, map_size: int, sync: bool, create: bool) -> Env:
    """The store of a directory, made when absent and `create`; older generations and unfinished files are removed."""
    newest = newest_file(directory)
    if newest is None:
        if not create:
            raise EngineError(f"no store at {directory}")
        newest = make(directory, map_size, sync)
    env = open_file(newest, map_size, sync)
    for leftover in directory.glob("store-*"):
        if not leftover.name.startswith(newest.name) or leftover.name.endswith((".new", ".new-lock")):
            leftover.unlink(missing_ok=True)
    return env


def newest_file(directory: Path) -> Path | None:
    """The store file of a directory."""
    found = [path for path in directory.iterdir() if NAME.fullmatch(path.name)]
    return max(found, key=generation_of, default=None)


def generation_of(path: str | Path) -> int:
    """The number in the name of a store file, which grows by defragmenting."""
    return int(Path(path).stem.removeprefix("store-"))


def make(directory: Path, map_size: int, sync: bool) -> Path:
    """A new, empty store file."""
    aside, final = directory / "store-1.mdb.new", directory / "store-1.mdb"
    aside.unlink(missing_ok=True)
    try:
        env = map_file(aside, map_size, sync, create=True)
        env.initialise(FORMAT, FIRST_REVISION)
        env.sync()
    except LmdbError as error:
        kind = EngineFull if error.code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else EngineError
        raise kind(f"cannot make a store in {directory}: {error}") from error
    del env
    publish(aside, final)
    return final


def publish(aside: Path, final: Path) -> None:
    """Give a finished file its name, durably."""
    os.replace(aside, final)
    Path(f"{aside}-lock").unlink(missing_ok=True)
    sync_file(final.parent)


def sync_file(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        os.close(fd)


def _named(error: OSError, path: str | Path) -> OSError:
    """`error` with the name of the file, which the system's error for a descriptor lacks."""
    return OSError(error.errno, error.strerror, str(path))


def open_file(path: Path, map_size: int, sync: bool) -> Env:
    """A store file, refused with a hint when it is none, damaged, or of another format."""
    check_file(path)
    try:
        env = map_file(path, map_size, sync, create=False)
        held = ReadTxn(env).get(Table.META, META_FORMAT)
    except LmdbError as error:
        if error.code in CORRUPT:
            raise EngineCorrupt(damaged(path, describe(error.code))) from error
        raise EngineError(f"cannot open {path}: {error}") from error
    if held != FORMAT:
        shown = "no format" if held is None else held.decode(errors="replace")
        raise EngineCorrupt(
            f"{path} holds {shown!r}, this version of brain reads {FORMAT.decode()!r}: use the version that wrote it"
        )
    return env


def open_read_only(path: Path) -> Env:
    """A store file that nobody writes, for looking at; nothing is created beside it."""
    return Env(
        str(path), TABLES, 1 << 30 if path.stat().st_size < 1 << 30 else path.stat().st_size, 2, True, False, True
    )


def open_following(directory: Path, map_size: int) -> Env:
    """The newest store file, to read while another process writes it; EngineError when there is none."""
    while (newest := newest_file(directory)) is not None:
        try:
            return map_file(newest, map_size, sync=True, create=False, follow=True)
        except FileNotFoundError:
            continue  # replaced in between by a newer one
        except LmdbError as error:
            if error.code != errno.ENOENT:
                raise EngineError(f"cannot read {newest}: {error}") from error
    raise EngineError(f"no store at {directory}")


def map_file(path: Path, map_size: int, sync: bool, create: bool, follow: bool = False) -> Env:
    """Open with as much address space as the process may have."""
    least = 2 * (path.stat().st_size if path.exists() else 0)
    while True:
        try:
            return Env(str(path), TABLES, map_size, MAX_READERS, sync, create, False, follow)
        except LmdbError as error:
            if error.code != errno.ENOMEM or map_size // 2 < max(least, 1 << 26):
                raise
            map_size //= 2


class Claims(NamedTuple):
    """What the newest meta page says about a file."""

    page_size: int
    pages: int  # up to the last one ever used
    free_list: bytes  # record of the table of free pages
    main: bytes  # record of the table of tables


def read_claims(path: Path) -> Claims:
    """EngineCorrupt for a file that is no store or shorter than it says: reading a missing page would kill the
    process.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(PAGE_HEADER + META_RECORD.size)
        if len(head) < PAGE_HEADER + META_RECORD.size:
            raise EngineCorrupt(damaged(path, f"only {length} bytes"))
        magic, version, _, _, free_list, _, _, _ = META_RECORD.unpack_from(head, PAGE_HEADER)
        page_size = int.from_bytes(free_list[:4], "little")
        if magic != MAGIC or version != 1 or page_size not in PAGE_SIZES:
            raise EngineCorrupt(damaged(path, "not a store of brain"))
        file.seek(page_size)
        second = file.read(PAGE_HEADER + META_RECORD.size)
    if len(second) < PAGE_HEADER + META_RECORD.size:
        raise EngineCorrupt(damaged(path, f"only {length} bytes"))
    metas = [META_RECORD.unpack_from(page, PAGE_HEADER) for page in (head, second)]
    _, _, _, _, free_list, main, last_page, _ = max(metas, key=lambda meta: int(meta[7]))
    if length < (last_page + 1) * page_size:
        raise EngineCorrupt(damaged(path, f"{length} bytes where {(last_page + 1) * page_size} were written"))
    return Claims(page_size, last_page + 1, free_list, main)


def check_file(path: Path, whole: bool = False) -> None:
    """EngineCorrupt unless the file's pages form sound trees; leaves of the log and of history only if `whole`."""
    claims = read_claims(path)
    tables = None if whole else CHECKED_WHOLE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            check_pages(data, claims.page_size, claims.pages, claims.free_list, claims.main, tables)
        except BadPage as error:
            raise EngineCorrupt(damaged(path, str(error))) from error


def rewrite(directory: Path, old: Env, map_size: int, sync: bool) -> Env:
    """The next generation of the store: a copy without free pages. The old file goes; who still reads it keeps its
    pages.

    EngineFailed: the copy has its final name, so that the next start opens it, but cannot be used now. The old file
    must not be written any more. After any other error the old file is still the store.
    """
    number = generation_of(old.path) + 1
    aside, final = directory / f"store-{number}.mdb.new", directory / f"store-{number}.mdb"
    aside.unlink(missing_ok=True)
    try:
        old.copy(str(aside), compact=True)
        sync_file(aside)
        publish(aside, final)
        env = open_file(final, map_size, sync)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if final.exists():
            raise EngineFailed(f"{final} replaces {old.path}, but cannot be used ({error}); start again") from error
        raise
    for path in (Path(old.path), Path(f"{old.path}-lock")):
        path.unlink(missing_ok=True)
    return env


def copy(env: Env, path: str) -> None:
    """A consistent copy of an open store into a new file, durable; blocking."""
    if os.path.exists(path):
        raise EngineError(f"{path} exists already; choose a new file")
    try:
        env.copy(path, compact=True)
        sync_file(path)
    except (LmdbError, OSError):
        Path(path).unlink(missing_ok=True)
        raise


def damaged(path: str | Path, why: str) -> str:
    """What to tell about a file that cannot be trusted."""
    return (
        f"{path} is damaged or no store of brain ({why}): nothing was changed; restore a snapshot into a new directory "
        "with `wharf brain restore`, or move the file away to start empty"
    )
