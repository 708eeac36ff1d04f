"""The source that the configuration names."""

from __future__ import annotations

from collections.abc import Callable

from wharf.gateway.config import GatewayConfig
from wharf.gateway.sources.base import ClusterObjects, Source
from wharf.gateway.sources.directory import DirectorySource


def open_source(config: GatewayConfig, on_change: Callable[[ClusterObjects], None]) -> Source:
    """A directory, or the home cluster. On the loop thread; OSError or ValueError when the kubeconfig is no good."""
    if config.config_dir is not None:
        return DirectorySource(config.config_dir, on_change)
    raise ValueError("not yet")
