"""The conformance suite on the engines that need nothing but this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from brain.engine.conformance import Conformance
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Engine, EngineError, LocalEngine
from wharf.brain.engine.memory import MemoryEngine


class MemoryBench:
    async def fresh(self) -> Engine:
        return MemoryEngine()

    def backed_up(self, path: Path) -> LocalEngine:
        return MemoryEngine.load(str(path))


class LmdbBench:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fresh(self) -> Engine:
        return open_engine(f"lmdb://{self._folder}/store", unsafe_no_fsync=True)

    def backed_up(self, path: Path) -> LocalEngine:
        home = self._folder / "copy"
        home.mkdir()
        os.rename(path, home / "store-1.mdb")
        return cast("LocalEngine", open_engine(f"lmdb://{home}"))


class TestMemory(Conformance):
    @pytest.fixture
    def bench(self) -> MemoryBench:
        return MemoryBench()


class TestLmdb(Conformance):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> LmdbBench:
        return LmdbBench(tmp_path)


@pytest.mark.parametrize("url", ["", "lmdb:", "lmdb://", "memory:x", "redis://h", "/dir", "postgresql:", "postgres://"])
def test_unknown_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(EngineError, match="unknown engine"):
        open_engine(url)


def test_a_refused_url_is_not_quoted() -> None:
    with pytest.raises(EngineError) as refused:
        open_engine("postgresql+driver://user:secret@host/db")
    assert "secret" not in str(refused.value)
