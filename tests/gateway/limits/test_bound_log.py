"""Lines about bounds: seldom, and none is lost from the count."""

from __future__ import annotations

from typing import cast

from wharf.common.log import Log
from wharf.gateway.limits.bound_log import INTERVAL, BoundLog


class Lines:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warn(self, message: str, **fields: object) -> None:
        self.lines.append(fields)


def test_one_line_for_each_bound_in_an_interval_with_the_number_of_requests() -> None:
    lines = Lines()
    log = BoundLog(cast(Log, lines), "prod")
    for now in (5.0, 5.1, 6.0, 5.0 + INTERVAL):
        log.note("a", now, limit=3)
    log.note("b", 6.0)
    assert lines.lines == [
        {"cluster": "prod", "bound": "a", "requests": 1, "limit": 3},
        {"cluster": "prod", "bound": "a", "requests": 3, "limit": 3},
        {"cluster": "prod", "bound": "b", "requests": 1},
    ]
