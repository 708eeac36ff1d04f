"""Runs a supervisor in this process, or leaves one running behind the command that started it.

A detached start forks once everything slow and refusable is done; the child reports its events through a pipe, so the
command shows the same progress and fails with the same words either way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable
from typing import Final

from wharf.cli.embedded import events
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part
from wharf.cli.embedded.supervisor import Supervisor
from wharf.common.log import setup
from wharf.common.private_files import open_private

Report = Callable[[Event], None]
INTERRUPTED: Final = 130  # as a shell reports a death by SIGINT


def run_here(layout: Layout, parts: list[Part], report: Report) -> int:
    """Supervise in this process until Ctrl-C, SIGTERM or SIGHUP; the exit code, INTERRUPTED after Ctrl-C."""
    with open(layout.log("supervisor"), "a", opener=open_private) as log:
        setup("info", "console", log)
        return asyncio.run(_supervise(layout, parts, report))


async def _supervise(layout: Layout, parts: list[Part], report: Report) -> int:
    supervisor = Supervisor(layout, parts, report)
    first: list[int] = []

    def stop(number: int) -> None:
        first.append(number)
        supervisor.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    code = await supervisor.run()
    return INTERRUPTED if code == 0 and first[:1] == [signal.SIGINT] else code


def run_detached(layout: Layout, parts: list[Part], report: Report) -> int:
    """Leave a supervisor running; 0 when it is up, 1 when it failed. An interrupt meanwhile stops what was started."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_the_supervisor(layout, parts, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        try:
            kind = _follow(pipe.readline, report)
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)  # our own child: the pid is its until we wait for it
            os.waitpid(pid, 0)
            raise
    if kind == events.UP:
        return 0
    os.waitpid(pid, 0)  # and with it the directory's lock is gone
    return 1


def _follow(read_line: Callable[[], bytes], report: Report) -> str:
    """Pass events on until the start is over, one way or the other; how it went."""
    while line := read_line():
        event = events.decode(line)
        report(event)
        if event.kind in events.OVER:
            return event.kind
    report(Event(events.FAILED, "", "the supervisor ended without a word; its log is logs/supervisor.log"))
    return events.FAILED


def _be_the_supervisor(layout: Layout, parts: list[Part], writer: int) -> None:
    """The forked child: never returns into the command's code."""
    code = 1
    try:
        os.setsid()
        os.chdir(layout.root)
        _redirect(layout)
        os.set_inheritable(writer, False)

        def report(event: Event) -> None:
            os.write(writer, events.encode(event))

        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the command goes away; writing to it then is an OSError
        code = run_here(layout, parts, report)
    except BaseException:  # whatever it is, it belongs in the log and not into a second copy of the command
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _redirect(layout: Layout) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    log = open_private(layout.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
