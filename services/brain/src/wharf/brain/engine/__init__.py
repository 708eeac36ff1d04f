"""What keeps brain's bytes: the contract (`base`), the model (`memory`), LMDB (`lmdb`), PostgreSQL (`postgres`)."""

from __future__ import annotations

from pathlib import Path

from wharf.brain.engine.base import Engine, EngineError

__all__ = ["open_engine"]


def open_engine(
    url: str,
    *,
    unsafe_no_fsync: bool = False,
    map_size: int | None = None,
    create: bool = True,
    replica_in: str | Path | None = None,
) -> Engine:
    """The engine behind a URL: `lmdb:///directory`, `memory:` or `postgresql://user:password@host/database`.

    The last is a `SharedEngine`: `open` it before anything else. For LMDB, `unsafe_no_fsync`: acknowledge before the
    disk has it, `map_size`: bytes of address space to reserve, `create`: make an empty store when there is none.
    `replica_in`: the directory in which a shared engine makes the one of its replica; None: the temporary one.
    EngineError says what is wrong with the URL or the store.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        from wharf.brain.engine.memory import MemoryEngine  # noqa: PLC0415  only the chosen engine is loaded

        return MemoryEngine()
    if scheme == "lmdb" and rest.startswith("//") and len(rest) > len("//"):
        from wharf.brain.engine.lmdb import LmdbEngine  # noqa: PLC0415

        return LmdbEngine(rest[2:], unsafe_no_fsync=unsafe_no_fsync, map_size=map_size, create=create)
    if scheme in ("postgresql", "postgres") and rest.startswith("//") and len(rest) > len("//"):
        from wharf.brain.engine.postgres import PostgresEngine  # noqa: PLC0415

        return PostgresEngine(url, replica_in)
    raise EngineError(
        f"unknown engine {scheme!r}: lmdb:///directory, memory: and postgresql://user:password@host/database are known"
    )
