"""What of a batch the authority is told."""

from __future__ import annotations

import re

import pytest
from wharf.brain.engine.base import Batch, Table, Write
from wharf.brain.engine.sql import MIGRATIONS, Plan, plan, statement
from wharf.brain.store.keys import META_COMPACTED, encode_u64, history_stem, hkey, log_key

NOW, LOG, HISTORY, META = Table.NOW, Table.LOG, Table.HISTORY, Table.META


def planned(*writes: Write, revisions: int = 1) -> Plan:
    return plan(Batch(1, 5, 5 + revisions, writes))


def test_the_last_write_of_a_key_counts() -> None:
    found = planned((NOW, b"k", b"1"), (NOW, b"k", None), (META, b"m", None), (META, b"m", b"2"), (NOW, b"l", b"3"))
    assert found == Plan(now={b"k": None, b"l": b"3"}, meta={b"m": b"2"})


def test_keys_are_taken_apart() -> None:
    found = planned((LOG, log_key(6), b"r"), (HISTORY, hkey(b"key", 6), b"v"))
    assert found == Plan(log={6: b"r"}, history={(6, history_stem(b"key")): b"v"})
    assert not found.deletes


def test_a_finished_step_of_a_compaction_is_told_by_its_bound() -> None:
    writes = ((HISTORY, hkey(b"k", 3), None), (LOG, log_key(3), None), (META, META_COMPACTED, encode_u64(4)))
    found = planned(*writes, revisions=0)
    assert (found.compacted, found.old_log) == (4, (3,))
    text, arguments = statement(Batch(1, 5, 5, writes), found, 9, 2, [b"gone"])
    assert arguments == [1, 5, 9, 2, 5, [META_COMPACTED], [encode_u64(4)], 4, 3, [b"gone"]]
    assert "ended <= $8" in text


def test_deletions_that_finish_nothing_are_told_one_by_one() -> None:
    writes = ((HISTORY, hkey(b"k", 3), None), (LOG, log_key(2), None))
    found = planned(*writes, revisions=0)
    assert (found.compacted, found.old_log, found.old_history) == (0, (2,), ((3, history_stem(b"k")),))
    _, arguments = statement(Batch(1, 5, 5, writes), found, 9, 2)
    assert arguments == [1, 5, 9, 2, 5, (3,), (history_stem(b"k"),), (2,)]


@pytest.mark.parametrize(
    ("writes", "why"),
    [
        ([(LOG, b"l", b"v")], "revision"),
        ([(HISTORY, b"12345678", b"v")], "revision"),
        ([(NOW, b"", b"v")], "0 bytes"),
        ([(NOW, b"k" * 512, b"v")], "512 bytes"),
        ([(9, b"k", b"v")], "no table"),
        ([(LOG, log_key(1), None), (HISTORY, hkey(b"k", 2), b"v")], "either"),
    ],
)
def test_what_the_tables_cannot_hold_is_refused(writes: list[Write], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        planned(*writes)


@pytest.mark.parametrize(
    "writes",
    [
        [],
        [(NOW, b"k", b"v")],
        [(LOG, log_key(6), b"r"), (NOW, b"k", b"v"), (HISTORY, hkey(b"k", 6), b"o"), (META, b"m", b"v")],
        [(HISTORY, hkey(b"k", 3), None), (META, b"m", b"v")],
        [(HISTORY, hkey(b"k", 3), None), (META, META_COMPACTED, encode_u64(4))],
    ],
)
def test_every_argument_has_its_place_and_every_table_is_written_once(writes: list[Write]) -> None:
    batch = Batch(1, 5, 5, writes)
    text, arguments = statement(batch, plan(batch), 9, 2)
    assert {int(number) for number in re.findall(r"\$(\d+)", text)} == set(range(1, len(arguments) + 1))
    written = re.findall(r"(?:UPDATE|INSERT INTO|DELETE FROM) (wharf_brain\.\w+)", text)
    assert len(written) == len(set(written))


def test_the_schema_has_nothing_that_only_one_dialect_knows() -> None:
    words = " ".join(step for steps in MIGRATIONS for step in steps).lower()
    assert not re.search(r"serial|sequence|generated|advisory|trigger|function|language", words)
