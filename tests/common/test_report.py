"""What a worker tells of its counts arrives as it was, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common import report
from wharf.common.metrics import Family, HistogramValue, Sample, merged, render
from wharf.common.report import BadReport

names = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
histograms = st.builds(
    HistogramValue,
    st.lists(st.floats(0, 10), max_size=4).map(tuple),
    st.lists(st.integers(0, 10**9), max_size=5).map(tuple),
    st.floats(0, 10),
)
samples = st.builds(Sample, st.lists(st.tuples(names, names), max_size=3).map(tuple), numbers | histograms)
families = st.builds(
    Family, names, names, st.sampled_from(("counter", "gauge", "histogram")), st.lists(samples, max_size=4).map(tuple)
)


@given(st.lists(families, max_size=4).map(tuple))
def test_it_arrives_as_it_was(told: tuple[Family, ...]) -> None:
    frame = report.encode(told)
    assert report.length_of(frame[: report.HEAD]) == len(frame) - report.HEAD
    assert report.decode(frame[report.HEAD :]) == told


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda it: json.dumps(it).encode())
)
def test_other_bytes_are_refused_and_nothing_worse(body: bytes) -> None:
    with contextlib.suppress(BadReport):
        assert report.decode(body) == ()


@pytest.mark.parametrize(
    "body", [b"", b"[[]]", b'[["n","h","guess",[]]]', b'[["n","h","gauge",[[[],[1]]]]]', b"[" * 9999]
)
def test_no_report(body: bytes) -> None:
    with pytest.raises(BadReport):
        report.decode(body)


def test_a_report_has_a_bound() -> None:
    with pytest.raises(BadReport):
        report.length_of((report.MOST + 1).to_bytes(report.HEAD, "big"))
    with pytest.raises(ValueError, match="a report of"):
        report.encode([Family("n", "x" * report.MOST, "gauge", ())])


def test_what_several_count_is_one_family_told_together() -> None:
    ours = Family("calls", "Calls.", "counter", (Sample((("method", "Range"),), 3),))
    other = Family("size", "Size.", "gauge", (Sample((), 1),))
    theirs = report.labelled(
        [Family("calls", "Calls.", "counter", (Sample((("method", "Range"),), 4),))], "worker", "0"
    )
    assert render(merged([ours, other, *theirs])).decode().splitlines() == [
        "# HELP calls Calls.",
        "# TYPE calls counter",
        'calls{method="Range"} 3',
        'calls{method="Range",worker="0"} 4',
        "# HELP size Size.",
        "# TYPE size gauge",
        "size 1",
    ]
