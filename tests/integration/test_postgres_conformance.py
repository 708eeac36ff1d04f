"""The engine conformance suite on PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from brain.engine.conformance import Conformance
from harness.postgres import Postgres
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Engine, LocalEngine
from wharf.brain.engine.postgres import PostgresEngine


class PostgresBench:
    def __init__(self, server: Postgres, folder: Path) -> None:
        self._server, self._folder = server, folder

    async def fresh(self) -> Engine:
        engine = PostgresEngine(self._server.fresh(), self._folder)
        await engine.open()
        return engine

    def backed_up(self, path: Path) -> LocalEngine:
        home = self._folder / "copy"
        home.mkdir()
        os.rename(path, home / "store-1.mdb")
        return cast("LocalEngine", open_engine(f"lmdb://{home}"))


class TestPostgres(Conformance):
    @pytest.fixture
    def bench(self, postgres: Postgres, tmp_path: Path) -> PostgresBench:
        return PostgresBench(postgres, tmp_path)
