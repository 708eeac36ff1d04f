"""`wharf gateway`: from flags to a serving instance, and back down in order.

One process serves by itself; with `--workers N` this one supervises N that do. Around either: the health port, the
heartbeat, status. Exit code 0 after a clean stop, 1 when the start failed, 2 for wrong words.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, TextIO

import uvloop
from wharf.common.clock import CLOCK
from wharf.common.config import ConfigError, check_files, exit_code, show_traceback
from wharf.common.log import get_log, setup
from wharf.common.metrics import Registry, process_collector
from wharf.common.private_files import open_private
from wharf.common.start_errors import check_certificate_pair, listen_error
from wharf.common.trace import Span
from wharf.gateway.commands import find_command
from wharf.gateway.config import SCHEMA, GatewayConfig, load_config
from wharf.gateway.life.child import Handed, taken
from wharf.gateway.life.keep import keep
from wharf.gateway.life.local import Local
from wharf.gateway.life.pages import Instance, http_handler
from wharf.gateway.life.sights import BadSights, Sights, merge_sights, parse_sights
from wharf.gateway.life.status_writer import StatusWriter
from wharf.gateway.life.stops import Stops
from wharf.gateway.life.supervisor import Supervisor
from wharf.gateway.life.worker import run_worker
from wharf.gateway.limits.shares_parent import ShareServer
from wharf.gateway.seen.access_log import AccessLog
from wharf.gateway.sources.open import check_source, open_home
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.tcp import ListenError
from wharf.wire.tls import TlsError

READY_LOOK: Final = 0.05  # seconds between looks at readiness, for the line in the log
_COLLECT_EVERY: Final = 50_000

_log = get_log("gateway")


def main(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run `wharf gateway` with `argv`; its exit code."""
    environment = os.environ if environment is None else environment
    handed = taken(argv)
    if handed is not None:
        return _serve(handed.config, handed)
    return exit_code(SCHEMA.program, argv, lambda words: _run_words(words, environment))


def _run_words(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    command = find_command(argv)
    if command is not None:
        run, words = command
        return run(words)
    config = load_config(argv, environment).config
    check_files(SCHEMA, config)
    check_source(config)
    if config.tls_cert_file is not None:
        check_certificate_pair(
            "--tls-cert-file, --tls-private-key-file", config.tls_cert_file, config.tls_private_key_file
        )
    return _serve(config, None)


def _serve(config: GatewayConfig, handed: Handed | None) -> int:
    setup(config.log_level, "json" if config.log_format == "json" else "console", sys.stderr)
    _allow_many_connections()
    with contextlib.ExitStack() as files:
        return uvloop.run(_run(config, _open_access_log(config, files), handed))


def _open_access_log(config: GatewayConfig, files: contextlib.ExitStack) -> TextIO:
    if config.access_log is None:
        return sys.stdout
    try:
        return files.enter_context(open(config.access_log, "a", buffering=1, encoding="utf-8", opener=open_private))
    except OSError as error:
        raise ConfigError(
            f"--access-log: {config.access_log}: {error.strerror}; name a file that this user may write"
        ) from error


def _allow_many_connections() -> None:
    """Every connection is a file; the usual soft limit is meant for programs that use select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # then the limit stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: GatewayConfig, access: TextIO, handed: Handed | None) -> int:
    stops = Stops(worker=handed is not None)
    async with AsyncExitStack() as down:
        try:
            metrics = Registry()
            metrics.collect_from(process_collector)
            instance = await _instance(config, access, handed, metrics, down)
            await instance.begin()
            if handed is None:
                await _attend(config, instance, metrics, down)
        except ListenError as error:
            raise listen_error(SCHEMA, config, error) from error
        except (OSError, TlsError, ValueError) as error:
            _log.error("cannot start", reason=str(error))
            show_traceback()
            return 1
        if handed is not None:
            await run_worker(handed, instance, metrics, stops.stop)
        else:
            await stops.stop.wait()
        _log.info("stopping")
        stops.when_hurried(instance.hurry)
        await instance.drain()
    _log.info("stopped")
    return 0


async def _instance(
    config: GatewayConfig, access: TextIO, handed: Handed | None, metrics: Registry, down: AsyncExitStack
) -> Instance:
    if handed is None and config.workers > 1:
        folder = tempfile.mkdtemp(prefix="wharf-gateway-")  # only this user may look into it
        down.callback(shutil.rmtree, folder, ignore_errors=True)
        shares = ShareServer(f"{folder}/shares")
        await shares.start()
        down.push_async_callback(shares.close)
        instance: Instance = Supervisor(config, f"{folder}/shares")
    else:
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY, 20, 50)
        instance = Local(
            config,
            metrics,
            AccessLog(access.write, lambda: CLOCK.wall_ns() / 1e9),
            sink=_sink(config, down),
            shares_path=handed.shares if handed is not None else "",
            secret=handed.secret if handed is not None else None,
            replicas=config.workers,
            reuse_port=handed is not None,
        )
    down.push_async_callback(instance.close)
    return instance


def _sink(config: GatewayConfig, down: AsyncExitStack) -> Callable[[Span], None] | None:
    if not config.otlp_endpoint:
        return None
    from wharf.common.otlp import OtlpConfig, OtlpExporter, parse_endpoint  # noqa: PLC0415 only who exports pays for it

    resource_ = {"service.name": "wharf-gateway", "service.instance.id": config.instance}
    exporter = OtlpExporter(OtlpConfig(endpoint=parse_endpoint(config.otlp_endpoint), resource=resource_))
    exporter.start()
    down.callback(exporter.stop)
    return exporter.offer


async def _attend(config: GatewayConfig, instance: Instance, metrics: Registry, down: AsyncExitStack) -> None:
    """Begin everything around an instance. OSError, ValueError, TlsError."""
    listeners = [ListenerConfig(url.host, url.port or 0) for url in config.health_listen]
    health = GrpcServer({}, listeners, http=http_handler(instance, metrics))
    await health.start()
    down.push_async_callback(health.close)
    ports = [f"{url.host}:{port}" for url, port in zip(config.health_listen, health.ports, strict=True)]
    _log.info("listening", addresses=list(instance.addresses), health_addresses=ports, name=config.instance)
    sights = _sights_of(instance)
    if config.nats:
        from wharf.gateway.life.heartbeat import Beats  # noqa: PLC0415 only who tells pays for it

        beats = Beats(config, lambda: instance.addresses, instance.unready, sights)
        down.push_async_callback(beats.close)
        keep(beats.run(), down)
    if config.home_kubeconfig is not None:
        home = open_home(config, down)
        keep(StatusWriter(home, sights).run(), down)
    keep(_say_ready(instance), down)


def _sights_of(instance: Instance) -> Callable[[], Sights]:
    def sights() -> Sights:
        try:
            return merge_sights(map(parse_sights, instance.statuses()))
        except BadSights as error:
            _log.error("what a worker sees cannot be read", reason=str(error))
            return {}

    return sights


async def _say_ready(instance: Instance) -> None:
    told = ""
    while reason := instance.unready():
        if reason != told:
            told = reason
            _log.info("not ready yet", reason=reason)
        await asyncio.sleep(READY_LOOK)
    _log.info("ready to serve client requests", addresses=list(instance.addresses))
