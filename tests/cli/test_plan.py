"""The order in which parts start and stop, and what is refused as a table of parts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.cli.embedded.plan import Health, Part, PlanError, start_waves, stop_grace, stop_waves


def part(name: str, *after: str) -> Part:
    return Part(name=name, argv=("true",), health=Health("http://h"), endpoint="e", version="v", after=after)


def names(waves: list[list[Part]]) -> list[list[str]]:
    return [[one.name for one in wave] for wave in waves]


SYSTEM = [part("brain"), part("apiserver", "brain"), part("manager", "apiserver"), part("scheduler", "apiserver")]


def test_parts_start_when_what_they_need_is_ready() -> None:
    assert names(start_waves(SYSTEM)) == [["brain"], ["apiserver"], ["manager", "scheduler"]]


def test_another_part_is_one_more_line() -> None:
    table = [*SYSTEM, part("nats"), part("gateway", "apiserver", "nats")]
    assert names(start_waves(table)) == [["brain", "nats"], ["apiserver"], ["manager", "scheduler", "gateway"]]


def test_parts_stop_in_the_opposite_order() -> None:
    assert stop_waves({one.name: one.after for one in SYSTEM}) == [["manager", "scheduler"], ["apiserver"], ["brain"]]


def test_a_part_that_is_gone_holds_nobody_up() -> None:
    assert stop_waves({"brain": (), "scheduler": ("apiserver",)}) == [["brain", "scheduler"]]


def test_a_part_without_what_it_stands_on_gets_little_time() -> None:
    assert stop_grace(SYSTEM[1], {"brain", "apiserver"}) == 15.0
    assert stop_grace(SYSTEM[1], {"apiserver"}) == 3.0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([part("a"), part("a")], "two parts with one name"),
        ([part("a", "b")], "b, which is no part"),
        ([part("a", "b"), part("b", "a")], "a, b wait for each other"),
        ([part("a", "a")], "a wait for each other"),
    ],
)
def test_a_table_without_an_order_is_refused(table: list[Part], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        start_waves(table)
    if "wait" in said:
        with pytest.raises(PlanError, match=said):
            stop_waves({one.name: one.after for one in table})


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=10))
def test_any_acyclic_table_starts_after_and_stops_before_its_needs(needs: list[set[int]]) -> None:
    table = [part(str(at), *(str(other) for other in sorted(need) if other < at)) for at, need in enumerate(needs)]
    started = {name: at for at, wave in enumerate(names(start_waves(table))) for name in wave}
    stopped = {name: at for at, wave in enumerate(stop_waves({p.name: p.after for p in table})) for name in wave}
    assert len(started) == len(stopped) == len(table)
    for one, need in itertools.product(table, table):
        if need.name in one.after:
            assert started[need.name] < started[one.name]
            assert stopped[one.name] < stopped[need.name]
