"""`wharf brain`: from flags to a serving node, and back down in order.

Start: engine, store (which loads what lives in memory), watches, API, listeners; only then the line `ready to serve
client requests`. Stop, on SIGTERM or SIGINT: no longer ready, streams ended, calls under way answered, store
finished, engine closed; exit code 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import uvloop
from wharf.brain.api.encode import Encoder
from wharf.brain.api.health import Checks, HealthPages
from wharf.brain.api.node import CLUSTER_VERSION, SERVER_VERSION, ApiLimits, Node
from wharf.brain.api.table import Api, with_tools
from wharf.brain.api.tasks import Tasks
from wharf.brain.autocompact import run_autocompact
from wharf.brain.commands import find_command
from wharf.brain.config import SCHEMA, BrainConfig, join_warnings, load_config
from wharf.brain.config_rules import address_warnings, exposed
from wharf.brain.engine.base import EngineError
from wharf.brain.front import Front, front_for
from wharf.brain.lone import Lone, Mode
from wharf.brain.metrics import EventMetrics, HealthMetrics, collect, server_families, store_families, watch_families
from wharf.brain.pages import http_handler
from wharf.brain.start_checks import check_start, kept_certificate, with_certificate
from wharf.brain.store.shapes import RangeOp
from wharf.brain.tee import Tee
from wharf.brain.telemetry import trace
from wharf.brain.watch.hub import Hub
from wharf.brain.workers.child import Handed, taken
from wharf.common.config import ConfigError, Loaded, check_files, exit_code, show_traceback
from wharf.common.log import get_log, setup
from wharf.common.metrics import Registry
from wharf.common.private_files import open_private
from wharf.common.start_errors import listen_error
from wharf.wire.health import Health, Status
from wharf.wire.tcp import ListenError
from wharf.wire.tls import TlsError

if TYPE_CHECKING:
    from wharf.common.self_signed import KeptCertificate

DRAIN_SECONDS: Final = 5.0
_RENEWAL_SECONDS: Final = 3600.0  # between looks at the certificate of --auto-tls
_COLLECT_EVERY: Final = 50_000  # more containers than requests in flight at the busiest hold

_log = get_log("brain")


def main(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run `wharf brain` with `argv`; its exit code."""
    environment = os.environ if environment is None else environment
    handed = taken(argv)
    if handed is not None:
        return _serve(handed.config, handed)
    return exit_code(SCHEMA.program, argv, lambda words: _run_words(words, environment))


def _run_words(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    command = find_command(argv)
    if command is not None:
        run, words = command
        return run(words, environment)
    if list(argv[:1]) in (["--version"], ["version"]):
        sys.stdout.write(f"wharf brain, etcd API {SERVER_VERSION}\n")
        return 0
    loaded = load_config(argv, environment)
    check_files(SCHEMA, loaded.config)
    check_start(loaded.config)
    return _serve(loaded.config, None, loaded)


def _with_certificate(config: BrainConfig, down: AsyncExitStack) -> BrainConfig:
    """`config`, with the certificate of --auto-tls if that is given; it is renewed while this process runs."""
    kept = kept_certificate(config)
    if kept is None:
        return config
    found = with_certificate(config, kept)
    renewal = asyncio.create_task(_renew(kept))
    down.push_async_callback(_cancel, renewal)
    return found


async def _renew(kept: KeptCertificate) -> None:
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        try:
            if kept.ensure():
                _log.info("the certificate of --auto-tls was renewed", file=str(kept.cert_file))
        except Exception as error:  # whatever it was, the next look may succeed
            _log.error("the certificate of --auto-tls cannot be renewed", file=str(kept.cert_file), reason=str(error))


def _serve(config: BrainConfig, handed: Handed | None = None, loaded: Loaded[BrainConfig] | None = None) -> int:
    with contextlib.ExitStack() as outputs:
        _set_up_log(config, outputs)
        if loaded is not None:
            _tell_warnings(loaded)
        _allow_many_connections()
        return uvloop.run(_run(config, handed))


def _allow_many_connections() -> None:
    """Every connection is a file; the usual soft limit is meant for programs that use select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # then the limit stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: BrainConfig, handed: Handed | None) -> int:
    """Serve until told to stop; 1 when the start failed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    brain = Brain(config, handed)
    try:
        if not await _started(brain, stop):
            _log.info("stopped before it served")
            await brain.stop()
            return 0
    except ListenError as error:
        await brain.stop()
        raise listen_error(SCHEMA, config, error) from error
    except (EngineError, TlsError, OSError, ValueError) as error:
        _log.error("cannot start", reason=str(error))
        show_traceback()
        await brain.stop()
        return 1
    _spare_the_collector()
    reason = await _ended(stop, brain)
    _log.info("stopping")
    await brain.stop()
    _log.info("stopped")
    return 3 if reason else 0


async def _started(brain: Brain, stop: asyncio.Event) -> bool:
    """False when told to stop meanwhile: a start may wait for others as long as it takes."""
    starting, told = asyncio.create_task(brain.start()), asyncio.create_task(stop.wait())
    await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
    await _cancel(told)
    if not starting.done():
        await _cancel(starting)
        return False
    await starting
    return True


async def _ended(stop: asyncio.Event, brain: Brain) -> str:
    """Until told to stop, "", or until this process must end: why."""
    told = asyncio.create_task(stop.wait())
    ends: set[asyncio.Task[Any]] = {told, *([brain.fatal] if brain.fatal is not None else [])}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await _cancel(told)
    if brain.fatal is None or not brain.fatal.done():
        return ""
    _log.error("this process must start over", reason=brain.fatal.result())
    return brain.fatal.result()


def _spare_the_collector() -> None:
    """What the start made stays; what requests make is freed by reference counting, so look for cycles rarely.

    At the default (every 700 objects) requests waiting for a commit are walked again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 50)


class Brain:
    """The parts of one node."""

    def __init__(self, config: BrainConfig, handed: Handed | None = None) -> None:
        """`handed`: what a worker got from the process that started it."""
        self._config = config
        self._handed = handed
        self._registry = Registry()
        self._draining = False
        self._grpc_health = Health()
        self._down = AsyncExitStack()  # what to take down, last up first
        self.fatal: asyncio.Task[str] | None = None  # done when this process must end, with the reason
        self.addresses: Sequence[str] = ()  # "host:port" of the client URLs, with the ports that were bound
        self.probe_addresses: Sequence[str] = ()  # the same of the metrics URLs

    async def start(self) -> None:
        """Everything up, or an exception; `stop` takes down what is up either way."""
        config, down = self._config, self._down
        if self._handed is None:
            _check_directory(config)
            config = self._config = _with_certificate(config, down)
        mode = await _mode(config, self._handed, self._registry, down)
        store = mode.store
        hub = Hub(store, config.progress_interval, config.max_request_bytes)
        down.callback(hub.close)
        node = _node(config, mode, hub)
        api = Api(node, by_certificate=config.client_cert_auth)
        methods = mode.admitted(mode.methods(api))
        api.serve(methods)
        pages = http_handler(self._health(mode), self._registry)
        front = front_for(config, trace(with_tools(methods, self._grpc_health), config, down), pages)
        down.push_async_callback(front.close)
        await front.start()
        down.push_async_callback(front.drain, DRAIN_SECONDS)
        down.push_async_callback(api.stop)
        self.addresses, self.probe_addresses = front.addresses, front.probe_addresses
        self._collect(mode, hub, front)
        down.push_async_callback(mode.hand_over)
        await mode.begin(hub, api, front)
        self.fatal = asyncio.create_task(mode.wait_fatal())
        down.push_async_callback(_cancel, self.fatal)
        compactor = asyncio.create_task(run_autocompact(store, config.retention))
        down.push_async_callback(_cancel, compactor)
        _log.info(
            mode.ready,
            name=config.name,
            addresses=list(self.addresses),
            metrics_addresses=list(self.probe_addresses),
            revision=store.revision,
            cluster_id=f"{store.cluster_id:x}",
            member_id=f"{store.member_id:x}",
        )

    async def stop(self) -> None:
        """The parts down in order; whatever was accepted is answered or refused."""
        self._draining = True
        self._grpc_health.set_all(Status.NOT_SERVING)
        await self._down.aclose()

    def _health(self, mode: Mode) -> HealthPages:
        store = mode.store

        def read() -> None:
            store.range(RangeOp(b"health"))

        versions = {"etcdserver": SERVER_VERSION, "etcdcluster": CLUSTER_VERSION, "storage": CLUSTER_VERSION}
        checks = Checks(alarms=store.alarms, read=read, draining=lambda: self._draining, unready=mode.unready)
        return HealthPages(checks, versions, HealthMetrics(self._registry).count)

    def _collect(self, mode: Mode, hub: Hub, front: Front) -> None:
        store = mode.store
        store.on_events(EventMetrics(self._registry).count)
        quota = self._config.quota_backend_bytes
        sources = (
            lambda: server_families(store, mode.cluster, mode.waiting()),
            lambda: store_families(store, quota),
            lambda: watch_families(hub),
            front.families,
            mode.families,
        )
        collect(self._registry, *sources)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _mode(config: BrainConfig, handed: Handed | None, registry: Registry, down: AsyncExitStack) -> Mode:
    if handed is not None:
        from wharf.brain.workers.worker import Worker  # noqa: PLC0415  only these two need grpcio

        return await Worker.open(handed, down)
    if config.workers:
        from wharf.brain.workers.parent import Parent  # noqa: PLC0415

        return await Parent.open(config, registry, down)
    if config.replicated:
        from wharf.brain.replicated import Replicated  # noqa: PLC0415  only this mode needs grpcio, Redis and NATS

        return await Replicated.open(config, registry, down)
    return await Lone.open(config, registry, down)


def _node(config: BrainConfig, mode: Mode, hub: Hub) -> Node:
    store = mode.store
    return Node(
        limits=ApiLimits(
            config.max_request_bytes, config.max_txn_ops, config.quota_backend_bytes, config.auth_token_ttl
        ),
        store=store,
        hub=hub,
        encoder=Encoder(store.cluster_id, store.member_id, store.term),
        tasks=Tasks(),
        cluster=mode.cluster,
        spool=config.directory if config.engine_url.startswith("lmdb:") else None,
    )


def _check_directory(config: BrainConfig) -> None:
    """The store holds every secret of a cluster: others on the machine should not read it."""
    if not config.engine_url.startswith("lmdb://"):
        return
    directory = Path(config.engine_url.removeprefix("lmdb://"))
    if directory.is_dir() and stat.S_IMODE(directory.stat().st_mode) & 0o077:
        _log.warn(
            "the data directory is open to other users; 0700 is recommended",
            directory=str(directory),
            mode=oct(stat.S_IMODE(directory.stat().st_mode)),
        )


def _set_up_log(config: BrainConfig, outputs: contextlib.ExitStack) -> None:
    level = {"panic": "error", "fatal": "error"}.get(config.log_level, config.log_level)
    known: dict[str, TextIO] = {"default": sys.stderr, "stderr": sys.stderr, "stdout": sys.stdout}
    streams = [known.get(name) or _open_log(name, outputs) for name in config.log_outputs or ("default",)]
    stream = streams[0] if len(streams) == 1 else cast(TextIO, Tee(streams))
    setup(level, "json" if config.log_format == "json" else "console", stream)


def _open_log(name: str, outputs: contextlib.ExitStack) -> TextIO:
    try:
        return outputs.enter_context(open(name, "a", buffering=1, encoding="utf-8", opener=open_private))
    except OSError as error:
        raise ConfigError(f"--log-outputs: {name!r}: {error.strerror}; name a file that this user may write") from error


def _tell_warnings(loaded: Loaded[BrainConfig]) -> None:
    ignored, others = join_warnings(loaded.warnings)
    if ignored:
        _log.warn("flags of etcd that have no meaning here are ignored", flags=list(ignored))
    for line in others:
        _log.warn(line)
    for urls, what in (
        (loaded.config.listen_client_urls, "read and write everything, Secrets too: give --cert-file and --key-file"),
        (loaded.config.listen_peer_urls if loaded.config.replicated else (), "write everything: use https"),
    ):
        if plain := exposed(urls):
            _log.warn(f"plain http beyond loopback: whoever reaches it can {what}", urls=list(plain))
    for line in address_warnings(loaded.config):
        _log.warn(line)
    if loaded.config.unsafe_no_fsync:
        _log.warn("--unsafe-no-fsync: acknowledged writes are lost when this machine crashes")
