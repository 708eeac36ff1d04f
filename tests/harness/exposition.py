"""Prometheus' text format, as tests read it."""

from __future__ import annotations

from collections import Counter


def repeated_samples(text: str) -> list[str]:
    """The names with labels that `text` has more than one sample of; a scrape of such a text fails."""
    counts = Counter(_series(line) for line in text.splitlines() if line and not line.startswith("#"))
    return sorted(series for series, count in counts.items() if count > 1)


def _series(line: str) -> str:
    """Name and labels, the labels in one order."""
    name, brace, labels = line.rpartition(" ")[0].partition("{")
    return name + brace + ",".join(sorted(labels.removesuffix("}").split('",')))
