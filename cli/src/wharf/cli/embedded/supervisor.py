"""Starts the parts in order, watches them, stops them in the opposite order.

It owns every process it starts, each in a session of its own, so that a Ctrl-C reaches the supervisor alone and the
parts end in order. A part that dies is reported, recorded and left dead: nothing is restarted behind anybody's back.

Invariant: when `run` returns, no process it started is alive; the state file shows what runs at every moment between.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from wharf.cli.embedded import events, state
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.health import ask
from wharf.cli.embedded.identity import Identity, boot_id, identify, kill_group
from wharf.cli.embedded.layout import Layout, tail
from wharf.cli.embedded.plan import Part, start_waves, stop_grace, stop_waves
from wharf.cli.embedded.state import SystemState
from wharf.common.log import get_log
from wharf.common.private_files import open_private

_POLL = 0.1  # seconds between questions to a part that is starting
_SHOWN_LINES = 5
_SHOWN_WIDTH = 200

log = get_log("supervisor")


class _StartError(Exception):
    """A part did not come up; the message is for people."""


class _Child:
    """A started part."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process, who: Identity) -> None:
        self.part = part
        self.process = process
        self.who = who
        self.exited = asyncio.create_task(process.wait())


class Supervisor:
    """One run of one system. All methods belong to the loop thread."""

    def __init__(self, layout: Layout, parts: list[Part], report: Callable[[Event], None]) -> None:
        self._layout = layout
        self._waves = start_waves(parts)
        self._report_to = report
        self._children: dict[str, _Child] = {}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._all_died = asyncio.Event()
        me = identify(os.getpid())
        assert me is not None  # noqa: S101 we are alive
        self._state = SystemState(me, time.time(), str(layout.kubeconfig))

    def stop(self) -> None:
        """Stop in order; asked a second time, at once. Safe in a signal handler of the loop."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> int:
        """Run until stopped; the exit code: 0 after an orderly stop, 1 when it did not start or everything died."""
        state.save(self._layout.state, self._state)
        try:
            return await self._run()
        except BaseException:
            await self._stop_all()
            raise

    async def _run(self) -> int:
        began = time.monotonic()
        starting = asyncio.create_task(self._start_all())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
        except _StartError as failure:
            await self._stop_all()
            self._layout.state.unlink(missing_ok=True)
            self._report(Event(events.FAILED, "", str(failure)))
            return 1
        finally:
            stop.cancel()
        if not self._stop.is_set():
            self._report(Event(events.UP, "", seconds=time.monotonic() - began))
            await self._watch()
        if self._all_died.is_set() and not self._stop.is_set():
            return 1  # the state file stays: `wharf status` tells how each part ended
        await self._stop_all()
        self._layout.state.unlink(missing_ok=True)
        return 0

    async def _watch(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, self._all_died)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    # --- starting ---------------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        for wave in self._waves:
            starts = [asyncio.create_task(self._start(part)) for part in wave]
            try:
                await asyncio.gather(*starts)
            finally:
                for start in starts:
                    start.cancel()

    async def _start(self, part: Part) -> None:
        began = time.monotonic()
        path = self._layout.fresh_log(part.name)
        child = await self._spawn(part, path)
        self._report(Event(events.STARTING, part.name))
        while (trouble := await asyncio.to_thread(ask, part.health)) is not None:
            await asyncio.wait((child.exited,), timeout=_POLL)
            if child.exited.done():
                raise _StartError(_with_log(f"{part.name} did not start: {_ending(child.exited.result())}", path))
            if time.monotonic() - began > part.ready_within:
                raise _StartError(
                    _with_log(f"{part.name} was not ready within {part.ready_within:.0f} s: {trouble}", path)
                )
        self._set_phase(part.name, state.READY)
        self._report(Event(events.READY, part.name, part.endpoint, time.monotonic() - began))

    async def _spawn(self, part: Part, path: Path) -> _Child:
        with open(path, "ab", opener=open_private) as out:  # noqa: ASYNC230
            try:
                process = await asyncio.create_subprocess_exec(
                    *part.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=asyncio.subprocess.STDOUT,
                    env={**os.environ, **part.env},
                    cwd=self._layout.root,
                    start_new_session=True,
                )
            except OSError as error:
                raise _StartError(f"{part.name} did not start: {part.argv[0]}: {error.strerror}") from error
        who = identify(process.pid) or Identity(process.pid, 0, boot_id())
        child = _Child(part, process, who)
        self._children[part.name] = child
        self._state = self._state.with_part(state.begun(part, who, path, time.time()))
        self._save()
        child.exited.add_done_callback(lambda task: self._on_exit(child, task))
        return child

    # --- watching ---------------------------------------------------------------------------------------------------

    def _on_exit(self, child: _Child, task: asyncio.Task[int]) -> None:
        if task.cancelled():
            return
        name = child.part.name
        how = _ending(task.result())
        if self._stop.is_set():
            self._set_phase(name, state.STOPPED, how)
            return
        started = self._state.part(name).phase == state.READY
        self._set_phase(name, state.DIED, how)
        if started:
            log_file = self._layout.log(name)
            self._report(Event(events.DIED, name, f"{name} ended: {how}; it is not restarted, its log is {log_file}"))
        if all(one.exited.done() for one in self._children.values()):
            self._all_died.set()

    # --- stopping ---------------------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        self._stop.set()
        alive = {name: child for name, child in self._children.items() if not child.exited.done()}
        for wave in stop_waves({name: child.part.after for name, child in alive.items()}):
            await asyncio.gather(*(self._stop_one(alive[name], stop_grace(alive[name].part, alive)) for name in wave))

    async def _stop_one(self, child: _Child, grace: float) -> None:
        began = time.monotonic()
        name = child.part.name
        self._report(Event(events.STOPPING, name))
        if not self._hurry.is_set():
            with suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((child.exited, hurry), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not child.exited.done():
            self._report(Event(events.KILLED, name, "", time.monotonic() - began))
        kill_group(child.who)  # and whatever it left behind in its session
        code = await child.exited
        self._report(Event(events.STOPPED, name, _ending(code), time.monotonic() - began))

    # --- telling ----------------------------------------------------------------------------------------------------

    def _set_phase(self, name: str, phase: str, end: str = "") -> None:
        part = replace(self._state.part(name), phase=phase, since=time.time(), end=end)
        self._state = self._state.with_part(part)
        self._save()

    def _save(self) -> None:
        try:
            state.save(self._layout.state, self._state)
        except OSError as error:  # a full disk is no reason to stop what runs
            log.error("the state file cannot be written", path=self._layout.state, reason=error.strerror)

    def _report(self, event: Event) -> None:
        write = log.error if event.kind in (events.DIED, events.FAILED, events.KILLED) else log.info
        write(event.kind, part=event.part, text=event.text, seconds=round(event.seconds, 3))
        with suppress(OSError):  # nobody looks any more; the log has everything
            self._report_to(event)


def _ending(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _with_log(message: str, path: Path) -> str:
    lines = tail(path, _SHOWN_LINES)
    return "\n  ".join((f"{message}; its log is {path}", *(line[:_SHOWN_WIDTH] for line in lines)))
