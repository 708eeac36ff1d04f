"""Runs a stock control plane on given store endpoints: apiserver(s), controller-manager, scheduler.

It owns the processes and their folder (`pki/`, `logs/`, kubeconfigs). `wharf up` and the tests use the same class.
Invariant: after `stop`, or after a `start` that raised, none of its processes runs.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from wharf.cli.kube import argv, credentials
from wharf.cli.kube.argv import ApiserverOptions, EtcdAccess
from wharf.cli.kube.process import Process

_READY_SECONDS = 60.0
_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ControlPlaneOptions:
    """What to run. Ports that are 0 are chosen when the control plane is made and kept over restarts."""

    apiservers: tuple[ApiserverOptions, ...] = (ApiserverOptions(port=0),)
    controllers: bool = True  # controller-manager and scheduler
    controller_manager_extra: tuple[str, ...] = ()
    scheduler_extra: tuple[str, ...] = ()
    extra_addresses: tuple[str, ...] = field(default=())  # further names in the apiserver's certificate


def free_port(address: str = "127.0.0.1") -> int:
    """A port nobody listens on right now."""
    with closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class ControlPlane:
    """The processes of one control plane."""

    def __init__(
        self, folder: Path, binaries: Mapping[str, Path], etcd: EtcdAccess, options: ControlPlaneOptions | None = None
    ) -> None:
        options = options or ControlPlaneOptions()
        self.folder = folder
        self.pki = folder / "pki"
        servers = tuple(_with_port(one) for one in options.apiservers)
        named = {one.advertise_address for one in servers} | {one.bind_address for one in servers}
        self.files = credentials.prepare(self.pki, sorted({*named, *options.extra_addresses} - {"0.0.0.0"}))  # noqa: S104
        self.urls = tuple(f"https://{_reachable(one.bind_address)}:{one.port}" for one in servers)
        self.kubeconfigs = tuple(
            credentials.kubeconfig(self.pki, folder / _admin_file(index), url, credentials.ADMIN)
            for index, url in enumerate(self.urls)
        )
        logs = folder / "logs"
        self.apiservers = tuple(
            Process(
                f"kube-apiserver-{index}",
                argv.apiserver(binaries["kube-apiserver"], one, etcd, self.files),
                logs / f"kube-apiserver-{index}.log",
            )
            for index, one in enumerate(servers)
        )
        self._controller_ports: dict[Process, int] = {}
        if options.controllers:
            self._add_controllers(binaries, logs, options)

    def _add_controllers(self, binaries: Mapping[str, Path], logs: Path, options: ControlPlaneOptions) -> None:
        for name, identity, line, extra in (
            (
                "kube-controller-manager",
                credentials.CONTROLLER_MANAGER,
                argv.controller_manager,
                options.controller_manager_extra,
            ),
            ("kube-scheduler", credentials.SCHEDULER, argv.scheduler, options.scheduler_extra),
        ):
            file = self.folder / f"{identity.name}.kubeconfig"
            config = credentials.kubeconfig(self.pki, file, self.urls[0], identity)
            port = free_port()
            process = Process(name, line(binaries[name], port, config, self.files, extra), logs / f"{name}.log")
            self._controller_ports[process] = port

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig for the first apiserver."""
        return self.kubeconfigs[0]

    @property
    def url(self) -> str:
        """The first apiserver."""
        return self.urls[0]

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everything, in start order."""
        return (*self.apiservers, *self._controller_ports)

    def start(self, timeout: float = _READY_SECONDS) -> ControlPlane:
        """Start everything and return when all of it is ready."""
        with self._stopped_on_failure():
            for process in self.apiservers:
                process.start()
            for index in range(len(self.apiservers)):
                self.wait_apiserver(index, timeout)
            for process in self._controller_ports:
                process.start()
            for process, port in self._controller_ports.items():
                url = f"https://127.0.0.1:{port}"
                process.wait_ready(partial(self.answers, url, "/healthz"), timeout)
        return self

    def wait_apiserver(self, index: int = 0, timeout: float = _READY_SECONDS) -> None:
        """Return when an apiserver's /readyz says ok."""
        self.apiservers[index].wait_ready(lambda: self.answers(self.urls[index], "/readyz"), timeout)

    def stop(self) -> None:
        """Stop everything, in the opposite order, so that nobody complains about a missing peer."""
        for process in reversed(self.processes):
            process.stop()

    def answers(self, url: str, path: str) -> bool:
        """True when an HTTPS GET as the admin is answered with 200."""
        try:
            with closing(self.connect(url, _PROBE_SECONDS)) as connection:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def connect(self, url: str | None = None, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """An HTTPS connection as the admin."""
        context = ssl.create_default_context(cafile=str(self.files.ca.cert))
        context.load_cert_chain(self.files.admin.cert, self.files.admin.key)
        host, _, port = (url or self.url).removeprefix("https://").rpartition(":")
        return http.client.HTTPSConnection(host, int(port), context=context, timeout=timeout)

    def logs(self) -> str:
        """The ends of all logs, for people."""
        return "\n".join(f"==== {one.name} ({one.log})\n{one.tail()}" for one in self.processes if one.log.exists())

    @contextmanager
    def _stopped_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise


def _with_port(options: ApiserverOptions) -> ApiserverOptions:
    if options.port:
        return options
    return replace(options, port=free_port())


def _reachable(bind_address: str) -> str:
    """Where to reach a listener from this machine."""
    return "127.0.0.1" if bind_address in {"0.0.0.0", "::"} else bind_address  # noqa: S104


def _admin_file(index: int) -> str:
    return "admin.kubeconfig" if index == 0 else f"admin-{index}.kubeconfig"
