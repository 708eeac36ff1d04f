"""The source that the configuration names, and the home cluster's API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from wharf.common.config import ConfigError
from wharf.common.kube.client import KubeClient
from wharf.common.kube.kubeconfig import KubeconfigError, load_kubeconfig
from wharf.gateway.config import GatewayConfig
from wharf.gateway.sources.base import ClusterObjects, Source
from wharf.gateway.sources.directory import DirectorySource
from wharf.gateway.sources.files import document_files
from wharf.gateway.sources.kube import KubeSource
from wharf.wire.client import HttpPool
from wharf.wire.tls import TlsError

IN_CLUSTER: Final = Path("in-cluster")  # instead of a file: the pod's own service account


def check_source(config: GatewayConfig) -> None:
    """ConfigError if the directory of --config-dir cannot be listed or the home kubeconfig cannot be used.

    A directory that is lost later is waited for.
    """
    if config.config_dir is None:
        _check_kubeconfig(config)
        return
    try:
        document_files(config.config_dir)
    except OSError as error:
        remedy = "name the directory that holds the UpstreamCluster documents"
        raise ConfigError(f"--config-dir: {config.config_dir}: {error.strerror}; {remedy}") from error


def _check_kubeconfig(config: GatewayConfig) -> None:
    path = config.home_kubeconfig
    try:
        load_kubeconfig(None if path == IN_CLUSTER else path).target()
    except (KubeconfigError, TlsError, OSError) as error:
        raise ConfigError(f"--home-kubeconfig: {path}: {error}; give a kubeconfig of the home cluster") from error


def open_source(config: GatewayConfig, on_change: Callable[[ClusterObjects], None], down: AsyncExitStack) -> Source:
    """A directory, or the home cluster. On the loop thread. KubeconfigError (a ValueError) or TlsError."""
    if config.config_dir is not None:
        return DirectorySource(config.config_dir, on_change)
    return KubeSource(open_home(config, down), on_change)


def open_home(config: GatewayConfig, down: AsyncExitStack) -> KubeClient:
    """The home cluster's API; its connections are closed with `down`. Errors as `open_source`."""
    path = config.home_kubeconfig
    access = load_kubeconfig(None if path == IN_CLUSTER else path)
    pool = HttpPool(access.target())
    down.push_async_callback(pool.close)
    return KubeClient(lambda: pool, access.headers, access.path)
