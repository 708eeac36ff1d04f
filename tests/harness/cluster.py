"""A store and a control plane on it, together: what most cluster tests want."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.binaries import locate
from wharf.cli.kube.controlplane import ControlPlane, ControlPlaneOptions
from wharf.cli.kube.recipes import CONTROL_PLANE

from harness.api import Api
from harness.kubectl import Kubectl
from harness.store import Store


def kube_binaries() -> dict[str, Path]:
    """The pinned release, never what PATH happens to have: the suite's results must not depend on the machine."""
    return {name: locate(name, search_path=False, report=lambda _: None) for name in CONTROL_PLANE}


@dataclass
class Cluster:
    """One running cluster without nodes."""

    store: Store
    plane: ControlPlane
    kubectl: Kubectl

    @classmethod
    def create(
        cls,
        folder: Path,
        options: ControlPlaneOptions | None = None,
        *,
        store_tls: bool = False,
        store_flags: tuple[str, ...] = (),
    ) -> Cluster:
        """A new store in `folder` and a control plane on it, not started yet."""
        binaries = kube_binaries()
        store = Store(folder / "store", tls=store_tls, flags=store_flags)
        plane = ControlPlane(folder / "kube", binaries, store.access, options)
        return cls(store, plane, Kubectl(binaries["kubectl"], plane.kubeconfig))

    def start(self) -> Cluster:
        """Store first; nothing is left running when it fails."""
        self.store.start()
        try:
            self.plane.start()
        except BaseException:
            self.store.stop()
            raise
        return self

    def stop(self) -> None:
        """Control plane first."""
        self.plane.stop()
        self.store.stop()

    def api(self, index: int = 0) -> Api:
        """A new client of an apiserver."""
        return Api(self.plane, index)

    def create_namespace(self, name: str) -> None:
        """A namespace in which pods can be created: that needs the service account a controller makes."""
        self.kubectl("create", "namespace", name)
        self.kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")

    def logs(self) -> str:
        """Everybody's last words."""
        return f"{self.store.logs()}\n{self.plane.logs()}"
