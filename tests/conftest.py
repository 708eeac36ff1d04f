"""Rules for every test: nothing it started outlives it, and no error is lost in an event loop.

A task still pending when its loop is closed is work nobody waits for; an error that reached the loop's
exception handler is one nobody saw. Both fail the test that caused them.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import logging
import os
from collections.abc import Iterator

import hypothesis
import pytest

# A deadline per example would test how busy the machine is. In CI the examples are the same in every run, so that a
# failure can be repeated and none comes by chance; elsewhere every run tries others.
hypothesis.settings.register_profile("wharf", deadline=None)
hypothesis.settings.register_profile("wharf-ci", hypothesis.settings.get_profile("wharf"), derandomize=True)
hypothesis.settings.load_profile("wharf-ci" if os.environ.get("CI") else "wharf")


GRPCIO = (
    "grpc/_cython"  # its server does not wait for its own tasks when it stops; they end in the next turns of the loop
)
GRPCIO_SECONDS = 5.0  # for these tasks to end


class LoopErrors(logging.Handler):
    """Collects what event loops (asyncio's and uvloop's) report to their logger as errors."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a task pending at the end of its loop, or an unhandled loop error."""
    leftover: list[str] = []
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]  # the one place all runners pass

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        servers = [task for task in asyncio.all_tasks(loop) if not task.done() and GRPCIO in repr(task)]
        if servers:
            # grpcio has one poller for all loops. A completion that is still on its way when this loop is closed would
            # be delivered from the loop of a later test, and fail it with "Event loop is closed".
            loop.run_until_complete(asyncio.wait(servers, timeout=GRPCIO_SECONDS))
        found = (repr(task) for task in asyncio.all_tasks(loop) if not task.done())
        leftover.extend(task for task in found if GRPCIO not in task)
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", note_and_cancel)
    errors = LoopErrors()
    logger = logging.getLogger("asyncio")
    logger.addHandler(errors)
    yield
    logger.removeHandler(errors)
    if leftover:
        pytest.fail("tasks left running when the loop was closed:\n" + "\n".join(leftover), pytrace=False)
    if errors.messages:
        pytest.fail("errors nobody handled in the event loop:\n" + "\n".join(errors.messages), pytrace=False)
