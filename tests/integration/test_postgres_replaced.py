"""What a writer that was replaced learns of a batch whose answer it never got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from brain.engine.conformance import get, outcomes
from brain.engine.histories import Txn
from harness.faultproxy import FaultProxy
from harness.postgres import Postgres
from integration.pg_kit import before_it_came_back, before_it_left, engines, fate, leading, run, sql, through
from wharf.brain.engine import postgres as pg
from wharf.brain.engine.base import CommitUnknown, EngineError, Fenced, OutcomeLost, Table


@dataclass(frozen=True)
class Case:
    """A batch, what happens before its writer asks for its outcome, and the answer."""

    name: str
    landed: bool
    txns: Sequence[Txn]
    promotions: int
    revisions: int  # written by each successor
    compacted: bool
    expected: bool | type[EngineError]


ONE_PUT: list[Txn] = [[(b"k", b"v")]]
CASES = [
    Case("a put", True, ONE_PUT, 1, 0, False, True),
    Case("a put, then history", True, ONE_PUT, 2, 3, False, True),
    Case("a put, compacted by the successor", True, ONE_PUT, 1, 3, True, True),
    Case("a put, compacted by the second successor", True, ONE_PUT, 2, 3, True, OutcomeLost),
    Case("no put", False, ONE_PUT, 1, 0, False, Fenced),
    Case("no put, then history", False, ONE_PUT, 2, 3, False, Fenced),
    Case("no put, compacted by the successor", False, ONE_PUT, 1, 3, True, Fenced),
    Case("no put, compacted by the second successor", False, ONE_PUT, 2, 3, True, OutcomeLost),
    Case("a lease", True, [], 1, 3, False, True),
    Case("no lease", False, [], 1, 3, False, Fenced),
    Case("a lease, two successors", True, [], 2, 3, False, OutcomeLost),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_replaced_writer_reads_from_the_log_whether_its_batch_landed(
    postgres: Postgres, proxy: FaultProxy, tmp_path: Path, case: Case
) -> None:
    """The server keeps its answer back until another node was promoted; the replaced writer asks afterwards."""

    async def body() -> None:
        url, direct = through(proxy, postgres, case.name)
        async with engines(url, tmp_path) as (engine,), engines(direct, tmp_path) as (other,):
            leader = await leading(engine)
            await leader.commit([[(b"j", b"v")]], [(b"lease/0", b"l")])  # the server knows both statements from now on
            await leader.commit([], [(b"lease/0", b"m")])
            (before_it_came_back if case.landed else before_it_left)(proxy, case.name)
            batch = leader.batch(case.txns, [(b"lease/1", b"l")])
            with pytest.MonkeyPatch.context() as short:  # only for the answer that is kept back
                short.setattr(pg, "COMMIT_SECONDS", 0.7)
                (error,) = await outcomes(engine, [batch])
            assert isinstance(error, CommitUnknown)
            proxy.cut(case.name)  # what was not sent yet is lost
            for _ in range(case.promotions):
                successor = await leading(other)
                for number in range(case.revisions):
                    await successor.commit([[(b"k", b"w%d" % number)]])
            if case.compacted:
                await sql(direct, "DELETE FROM wharf_brain.log")
            proxy.heal(case.name)
            found = await fate(engine, batch)
            assert found is case.expected or type(found) is case.expected, found
            assert (get(engine, Table.META, b"lease/1") is not None) is (found is True)
            await successor.commit([[(b"l", b"w")]])  # a question by the replaced one does not hinder its successor

    run(body())
