"""What a worker process tells the one that started it: that it serves, and what it has counted. Pure.

Frames on a stream: four bytes of length, big endian, then JSON. An empty report says that the worker serves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, cast

from wharf.common.metrics import Family, HistogramValue, Kind, Sample

HEAD: Final = 4  # bytes
MOST: Final = 4 << 20  # bytes of a report
_KINDS: Final = frozenset(("counter", "gauge", "histogram"))


class BadReport(ValueError):
    """Bytes that are no report."""


def encode(families: Iterable[Family]) -> bytes:
    """The frame; ValueError when there is too much to tell."""
    told = [
        [family.name, family.help, family.kind, [[sample.labels, _told(sample.value)] for sample in family.samples]]
        for family in families
    ]
    body = json.dumps(told, separators=(",", ":")).encode()
    if len(body) > MOST:
        raise ValueError(f"a report of {len(body)} bytes")
    return len(body).to_bytes(HEAD, "big") + body


def length_of(head: bytes) -> int:
    """Bytes that follow the first `HEAD`; BadReport."""
    length = int.from_bytes(head, "big")
    if length > MOST:
        raise BadReport(f"{length} bytes")
    return length


def decode(body: bytes) -> tuple[Family, ...]:
    """BadReport when `body` is none."""
    try:
        return tuple(
            Family(str(name), str(text), _kind(kind), tuple(_samples(samples)))
            for name, text, kind, samples in json.loads(body)
        )
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise BadReport(f"not a report: {error}") from error


def labelled(families: Iterable[Family], name: str, value: str) -> Iterator[Family]:
    """`families` with one more label on every sample."""
    for family in families:
        samples = tuple(Sample((*sample.labels, (name, value)), sample.value) for sample in family.samples)
        yield Family(family.name, family.help, family.kind, samples)


def _told(value: float | HistogramValue) -> object:
    return [value.bounds, value.counts, value.sum] if isinstance(value, HistogramValue) else value


def _kind(told: object) -> Kind:
    if told not in _KINDS:
        raise BadReport(f"no kind of metric: {told!r}")
    return cast(Kind, told)


def _samples(told: Iterable[tuple[object, object]]) -> Iterator[Sample]:
    for labels, value in told:
        pairs = tuple((str(name), str(of)) for name, of in cast(Iterable[tuple[object, object]], labels))
        yield Sample(pairs, _value(value))


def _value(told: object) -> float | HistogramValue:
    if isinstance(told, int | float):
        return told
    bounds, counts, total = cast(tuple[list[float], list[int], float], told)
    return HistogramValue(tuple(map(float, bounds)), tuple(map(int, counts)), float(total))
