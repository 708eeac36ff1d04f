"""Metrics: cheap to count, bounded in labels, and text that a real Prometheus parser reads back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from wharf.common.metrics import Family, Registry, Sample, process_collector, render


def parsed(registry: Registry) -> dict[str, float]:
    """Sample name and labels → value, as Prometheus' own parser sees the exposition."""
    found = {}
    for family in text_string_to_metric_families(render(registry.collect()).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_counters_and_gauges() -> None:
    registry = Registry()
    requests = registry.counter("brain_requests_total", "Requests served.")
    revision = registry.gauge("brain_revision", "Published revision.")
    requests.value += 3
    revision.value = 12345678901234567
    assert parsed(registry) == {"brain_requests_total": 3, "brain_revision": 12345678901234567}
    assert render(registry.collect()).decode().endswith("brain_revision 12345678901234567\n")


def test_a_histogram_is_cumulative_and_bounds_are_included() -> None:
    registry = Registry()
    took = registry.histogram("took_seconds", "Seconds.", bounds=(0.1, 1.0))
    for value in (0.1, 0.5, 7.0, 0.05):
        took.observe(value)
    assert parsed(registry) == {
        "took_seconds_bucket{le=0.1}": 2,
        "took_seconds_bucket{le=1}": 3,
        "took_seconds_bucket{le=+Inf}": 4,
        "took_seconds_sum": pytest.approx(7.65),
        "took_seconds_count": 4,
    }


def test_labelled_metrics() -> None:
    registry = Registry()
    calls = registry.counters("grpc_server_handled_total", "Calls.", ("method", "code"))
    calls.child("Range", "OK").value += 2
    calls.child("Range", "Unavailable").value += 1
    registry.gauges("open", "Open.", ("kind",)).child("watch").value = 4
    registry.histograms("seconds", "S.", ("op",), bounds=(1,)).child("put").observe(0.5)
    found = parsed(registry)
    assert found["grpc_server_handled_total{code=OK,method=Range}"] == 2
    assert found["open{kind=watch}"] == 4
    assert found["seconds_bucket{le=1,op=put}"] == 1


def test_a_child_is_the_same_metric_every_time() -> None:
    calls = Registry().counters("c_total", "C.", ("method",))
    assert calls.child("Range") is calls.child("Range")


def test_labels_are_bounded() -> None:
    registry = Registry()
    calls = registry.counters("c_total", "C.", ("user",), max_children=3)
    for number in range(1000):
        calls.child(f"user-{number}").value += 1
    found = parsed(registry)
    assert len(found) == 4
    assert found["c_total{user=other}"] == 997


def test_a_forgotten_child_makes_room() -> None:
    registry = Registry()
    calls = registry.counters("c_total", "C.", ("user",), max_children=1)
    calls.child("a").value += 1
    calls.forget("a")
    calls.child("b").value += 1
    assert parsed(registry) == {"c_total{user=b}": 1}


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=("Cs", "Cc", "Zl", "Zp"))))
def test_label_values_and_help_survive_any_text(value: str, help_text: str) -> None:
    value = value.encode("utf-8", "ignore").decode()
    family = Family("m_total", help_text, "counter", (Sample((("who", value),), 1.0),))
    text = render([family]).decode()
    # Only \n ends a line in the exposition; the parser is handed the lines so that others stay part of a value.
    metrics = list(text_string_to_metric_families(text))
    (sample,) = (sample for metric in metrics for sample in metric.samples)
    assert sample.labels == {"who": value}


def test_escapes_are_those_of_the_format() -> None:
    family = Family("m", 'a\\b\nc"d', "gauge", (Sample((("l", 'x\\y\nz"'),), 1.5),))
    assert render([family]) == b'# HELP m a\\\\b\\nc"d\n# TYPE m gauge\nm{l="x\\\\y\\nz\\""} 1.5\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (1e21, "1e+21"), (3.0, "3"), (True, "1")],
)
def test_numbers_as_go_reads_them(value: float, text: str) -> None:
    assert render([Family("m", "", "gauge", (Sample((), value),))]).decode().splitlines()[-1] == f"m {text}"


def test_collectors_are_asked_only_on_scrape() -> None:
    registry = Registry()
    asked: list[int] = []

    def size() -> int:
        asked.append(1)
        return 7

    registry.measure("size_bytes", "Size.", size)
    registry.collect_from(lambda: [Family("extra", "E.", "gauge", (Sample((), 8),))])
    assert asked == []
    assert parsed(registry) == {"size_bytes": 7, "extra": 8}
    assert asked == [1]


def test_names_are_checked_when_a_metric_is_made() -> None:
    registry = Registry()
    registry.counter("a_total", "A.")
    for make in (
        lambda: registry.gauge("a_total", "again"),
        lambda: registry.gauge("bad-name", "dash"),
        lambda: registry.counters("b_total", "B.", ("le",)),
        lambda: registry.counters("d_total", "D.", ("__name__",)),
        lambda: registry.histogram("h", "H.", bounds=(2, 1)),
        lambda: registry.counters("e_total", "E.", ("a", "b")).child("one"),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 each has its own text
            make()


def test_the_process_describes_itself() -> None:
    registry = Registry()
    registry.collect_from(process_collector)
    found = parsed(registry)
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_cpu_seconds_total"] > 0
    assert 0 < found["process_open_fds"] < found["process_max_fds"]
    before = found["process_open_fds"]
    reader, writer = os.pipe()
    try:
        assert parsed(registry)["process_open_fds"] == before + 2
    finally:
        os.close(reader)
        os.close(writer)
