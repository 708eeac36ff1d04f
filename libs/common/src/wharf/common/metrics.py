"""Counters, gauges and histograms that cost an attribute addition, and their Prometheus text.

The hot path holds the metric itself and writes `requests.value += 1`; a labelled metric is looked up once with
`family.child("Range")` and kept. Anything dearer is computed when somebody asks: collectors run on scrape.

Invariant: labels are bounded. A family admits `max_children` label combinations; what comes after shares one child
whose labels are all "other", so no client can grow the process by inventing names.
Source of the text format: Prometheus exposition formats, text 0.0.4.
"""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """One histogram at one moment; `counts` is per bucket, not cumulative, the last one above every bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Labels
    value: float | HistogramValue


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its label combinations, as collected."""

    name: str
    help: str
    kind: Kind
    samples: tuple[Sample, ...]


class Counter:
    """Only ever grows: `counter.value += n`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def read(self) -> float:
        return self.value


class Gauge:
    """Goes up and down: `gauge.value = n`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def read(self) -> float:
        return self.value


class Histogram:
    """Counts of observations per bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def read(self) -> HistogramValue:
        return HistogramValue(self.bounds, tuple(self.counts), self.sum)


M = TypeVar("M", Counter, Gauge, Histogram)


class Labelled(Generic[M]):
    """A metric per combination of label values; keep the child, do not look it up per request."""

    __slots__ = ("_children", "_make", "_max", "_names")

    def __init__(self, names: Sequence[str], make: Callable[[], M], max_children: int) -> None:
        self._names = tuple(names)
        self._make: Callable[[], M] = make
        self._max = max_children
        self._children: dict[tuple[str, ...], M] = {}

    def child(self, *values: str) -> M:
        """The metric with these label values; the shared "other" one when there are too many."""
        found = self._children.get(values)
        if found is not None:
            return found
        if len(values) != len(self._names):
            raise ValueError(f"labels are {self._names}, got {values}")
        if len(self._children) >= self._max:
            values = (OTHER,) * len(self._names)
        return self._children.setdefault(values, self._make())

    def forget(self, *values: str) -> None:
        """Drop one combination, when what it counted is gone for good."""
        self._children.pop(values, None)

    def samples(self) -> Iterator[Sample]:
        for values, metric in list(self._children.items()):
            yield Sample(tuple(zip(self._names, values, strict=True)), metric.read())


Collector = Callable[[], Iterable[Family]]

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


class Registry:
    """All metrics of a process; two with one name are refused when they are made."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._collectors: list[Collector] = []

    def counter(self, name: str, help: str) -> Counter:
        return self._single(name, help, "counter", Counter())

    def gauge(self, name: str, help: str) -> Gauge:
        return self._single(name, help, "gauge", Gauge())

    def histogram(self, name: str, help: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        return self._single(name, help, "histogram", Histogram(_checked(bounds)))

    def counters(self, name: str, help: str, labels: Sequence[str], max_children: int = 256) -> Labelled[Counter]:
        return self._labelled(name, help, "counter", Labelled(labels, Counter, max_children), labels)

    def gauges(self, name: str, help: str, labels: Sequence[str], max_children: int = 256) -> Labelled[Gauge]:
        return self._labelled(name, help, "gauge", Labelled(labels, Gauge, max_children), labels)

    def histograms(
        self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float] = SECONDS, max_children: int = 64
    ) -> Labelled[Histogram]:
        checked = _checked(bounds)
        return self._labelled(
            name, help, "histogram", Labelled(labels, lambda: Histogram(checked), max_children), labels
        )

    def measure(self, name: str, help: str, read: Callable[[], float], kind: Kind = "gauge") -> None:
        """A metric whose value is asked for on every scrape."""
        self._claim(name)
        self._collectors.append(lambda: (Family(name, help, kind, (Sample((), read()),)),))

    def collect_from(self, collector: Collector) -> None:
        """Families made on every scrape; their names are the collector's own affair."""
        self._collectors.append(collector)

    def collect(self) -> list[Family]:
        return [family for collector in self._collectors for family in collector()]

    def _single(self, name: str, help: str, kind: Kind, metric: M) -> M:
        self._claim(name)
        self._collectors.append(lambda: (Family(name, help, kind, (Sample((), metric.read()),)),))
        return metric

    def _labelled(self, name: str, help: str, kind: Kind, family: Labelled[M], labels: Sequence[str]) -> Labelled[M]:
        wrong = [label for label in labels if not _LABEL.fullmatch(label) or label == "le"]
        if wrong:
            raise ValueError(f"not a label name: {wrong[0]!r}")
        self._claim(name)
        self._collectors.append(lambda: (Family(name, help, kind, tuple(family.samples())),))
        return family

    def _claim(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a metric name: {name!r}")
        if name in self._names:
            raise ValueError(f"metric {name} exists already")
        self._names.add(name)


def _checked(bounds: Sequence[float]) -> tuple[float, ...]:
    if not bounds or list(bounds) != sorted(set(bounds)):
        raise ValueError("bucket bounds must rise")
    return tuple(float(bound) for bound in bounds)


# --- text 0.0.4 -----------------------------------------------------------------------------------------------------


def merged(families: Iterable[Family]) -> list[Family]:
    """`families`, those of one name as one, as the text format wants it: what several processes count is told
    together."""
    found: dict[str, list[Family]] = {}
    for family in families:
        found.setdefault(family.name, []).append(family)
    return [
        same[0]
        if len(same) == 1
        else Family(name, same[0].help, same[0].kind, tuple(sample for family in same for sample in family.samples))
        for name, same in found.items()
    ]


def render(families: Iterable[Family]) -> bytes:
    """The text exposition of `families`."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            if isinstance(sample.value, HistogramValue):
                lines.extend(_histogram_lines(family.name, sample.labels, sample.value))
            else:
                lines.append(f"{family.name}{_labels(sample.labels)} {_number(sample.value)}")
    return ("\n".join(lines) + "\n").encode() if lines else b""


def _histogram_lines(name: str, labels: Labels, value: HistogramValue) -> Iterator[str]:
    running = 0
    for bound, count in zip((*value.bounds, float("inf")), value.counts, strict=True):
        running += count
        yield f"{name}_bucket{_labels((*labels, ('le', _number(bound))))} {running}"
    yield f"{name}_sum{_labels(labels)} {_number(value.sum)}"
    yield f"{name}_count{_labels(labels)} {running}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape_label(value)}"' for name, value in labels) + "}"


def _escape_label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):  # a bool too
        return str(int(value))
    if value != value:  # noqa: PLR0124 NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


# --- the process itself ---------------------------------------------------------------------------------------------


def open_files() -> tuple[int, int]:
    """File descriptors of this process: how many are open, and how many may be."""
    return len(os.listdir("/proc/self/fd")) - 1, os.sysconf("SC_OPEN_MAX")


def process_collector() -> Iterable[Family]:
    """process_* metrics under the names every Prometheus client uses. Source: Prometheus client library guidelines."""
    with open("/proc/self/stat", "rb") as stat:
        after_name = stat.read().rpartition(b")")[2].split()
    open_fds, max_fds = open_files()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu = (int(after_name[11]) + int(after_name[12])) / ticks
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(after_name[19]) / ticks
    readings: tuple[tuple[str, str, Kind, float], ...] = (
        ("process_cpu_seconds_total", "User and system CPU time spent.", "counter", cpu),
        ("process_virtual_memory_bytes", "Virtual memory size.", "gauge", int(after_name[20])),
        ("process_resident_memory_bytes", "Resident memory size.", "gauge", int(after_name[21]) * page),
        ("process_start_time_seconds", "Start time, seconds since the Unix epoch.", "gauge", round(started, 2)),
        ("process_open_fds", "Open file descriptors.", "gauge", open_fds),
        ("process_max_fds", "Most file descriptors that may be open.", "gauge", max_fds),
    )
    return [Family(name, text, kind, (Sample((), value),)) for name, text, kind, value in readings]
