"""Strategies by name, this package's own and those that others install."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from wharf.gateway.balance.base import ENTRY_POINTS, Strategy

Factory = Callable[[], Strategy]


class UnknownStrategy(ValueError):
    """No installed strategy has this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no strategy is named {name!r}; there are {', '.join(known)}")
        self.name = name
        self.known = known


@cache
def load_strategies() -> Mapping[str, Factory]:
    """Every installed strategy by its name. What importing one raises is raised here."""
    return MappingProxyType({entry.name: entry.load() for entry in entry_points(group=ENTRY_POINTS)})


def make_strategy(name: str) -> Strategy:
    """A new instance; UnknownStrategy names what there is instead."""
    strategies = load_strategies()
    if name not in strategies:
        raise UnknownStrategy(name, tuple(sorted(strategies)))
    return strategies[name]()
