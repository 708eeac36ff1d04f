"""What keeps brain's bytes: the contract (`base`), the model (`memory`), LMDB (`lmdb`)."""

from __future__ import annotations

from wharf.brain.engine.base import Engine, EngineError

__all__ = ["open_engine"]


def open_engine(url: str, *, unsafe_no_fsync: bool = False, map_size: int | None = None, create: bool = True) -> Engine:
    """The engine behind a URL: `lmdb:///directory` or `memory:`.

    `unsafe_no_fsync`: acknowledge before the disk has it. `map_size`: bytes of address space to reserve (LMDB).
    `create`: make an empty store when there is none. EngineError says what is wrong with the URL or the store.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        from wharf.brain.engine.memory import MemoryEngine  # noqa: PLC0415  only the chosen engine is loaded

        return MemoryEngine()
    if scheme == "lmdb" and rest.startswith("//") and len(rest) > len("//"):
        from wharf.brain.engine.lmdb import LmdbEngine  # noqa: PLC0415

        return LmdbEngine(rest[2:], unsafe_no_fsync=unsafe_no_fsync, map_size=map_size, create=create)
    raise EngineError(f"unknown engine {url!r}: lmdb:///directory or memory: are known")
