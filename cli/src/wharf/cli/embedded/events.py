"""What a supervisor tells whoever looks on: shapes, and their form on the pipe of a detached start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

STARTING: Final = "starting"  # a part was started
READY: Final = "ready"  # it answers
DIED: Final = "died"  # it ended without being asked to
STOPPING: Final = "stopping"  # it was asked to end
KILLED: Final = "killed"  # it did not end in time
STOPPED: Final = "stopped"  # it ended
UP: Final = "up"  # every part is ready; `text` is empty
FAILED: Final = "failed"  # the start failed, everything is stopped again; `text` says why
OVER: Final = frozenset((UP, FAILED))


@dataclass(frozen=True, slots=True)
class Event:
    kind: str
    part: str  # empty: the system as a whole
    text: str = ""
    seconds: float = 0.0  # what it took


def encode(event: Event) -> bytes:
    return json.dumps(asdict(event)).encode() + b"\n"


def decode(line: bytes) -> Event:
    return Event(**json.loads(line))
