"""What is counted of calls, whichever way they come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from wharf.wire.rpc import Call, Code


class CallObserver(Protocol):
    """Is called at the start and the end of each call, as `GrpcServer` calls `on_start` and `on_end`."""

    def on_start(self, call: Call) -> None: ...

    def on_end(self, call: Call, code: int, /) -> None: ...


@dataclass(slots=True)
class CallCounts:
    """Of one method."""

    unary: bool
    started: int = 0
    received: int = 0  # messages
    sent: int = 0
    handled: list[int] = field(default_factory=lambda: [0] * len(Code))  # ended calls, by code

    def add(self, other: CallCounts) -> None:
        self.started += other.started
        self.received += other.received
        self.sent += other.sent
        self.handled = [mine + theirs for mine, theirs in zip(self.handled, other.handled, strict=True)]
