"""The values of a rule's field as predicates: `*`, prefixes and exclusions, with one meaning in every field.

A value passes when no exclusion (`-x`) matches it and, where there are other values, one of them does. So any number of
exclusions narrow each other, and an exclusion beside other values takes its part out of them. Where a request brings
several values (groups), any one of them satisfies, and any one of them excludes.

An absent thing has the empty name: a list has the resource name "", a node the namespace "". `["a"]` does not match
it, `["-a"]` and `["*"]` do, and `["-"]` excludes just that: everything but the core group, whatever has a namespace.

None as a predicate means that there is nothing to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Test = Callable[[str], bool]
ManyTest = Callable[[Iterable[str]], bool]
ResourceTest = Callable[[str, str], bool]


def split(values: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(positive values, exclusions without their sign)."""
    positive = tuple(value for value in values if not value.startswith("-"))
    return positive, tuple(value[1:] for value in values if value.startswith("-"))


def anything(values: Sequence[str]) -> bool:
    """Whether these values match whatever there is, things unknown included."""
    positive, excluded = split(values)
    return not excluded and (not positive or "*" in positive)


def compile_text(values: Sequence[str]) -> Test | None:
    """A predicate over one value: exact, `x*` a prefix of characters, `*` everything."""
    if anything(values):
        return None
    positive, excluded = split(values)
    wanted = _text(positive) if positive and "*" not in positive else None
    if not excluded:
        return wanted
    refused = _text(excluded)
    if wanted is None:
        return lambda value: not refused(value)
    return lambda value: wanted(value) and not refused(value)


def compile_many(values: Sequence[str]) -> ManyTest | None:
    """As `compile_text`, over all the values a request has in this field."""
    if anything(values):
        return None
    positive, excluded = split(values)
    wanted = _text(positive) if positive and "*" not in positive else None
    refused = _text(excluded) if excluded else None

    def test(having: Iterable[str]) -> bool:
        if refused is not None and any(map(refused, having)):
            return False
        return wanted is None or any(map(wanted, having))

    return test


def compile_resources(values: Sequence[str]) -> ResourceTest | None:
    """A predicate over (resource, subresource).

    "pods" is pods alone, "pods/log" that subresource, "*/status" a subresource of anything, "pods/*" every subresource
    of pods but not pods, "*/*" every subresource, "*" everything.
    """
    if anything(values):
        return None
    positive, excluded = split(values)
    wanted = _resources(positive) if positive and "*" not in positive else None
    refused = _resources(excluded) if excluded else None

    def test(resource: str, subresource: str) -> bool:
        if refused is not None and refused(resource, subresource):
            return False
        return wanted is None or wanted(resource, subresource)

    return test


def _text(patterns: Sequence[str]) -> Test:
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    if not prefixes:
        return exact.__contains__
    if not exact:
        return lambda value: value.startswith(prefixes)
    return lambda value: value in exact or value.startswith(prefixes)


def _resources(patterns: Sequence[str]) -> ResourceTest:
    everything = "*" in patterns
    known = frozenset(patterns)

    def test(resource: str, subresource: str) -> bool:
        if everything:
            return True
        if not subresource:
            return resource in known
        return not known.isdisjoint((f"{resource}/{subresource}", f"*/{subresource}", f"{resource}/*", "*/*"))

    return test
