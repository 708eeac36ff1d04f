"""Makes the files a control plane reads: authorities, certificates, the service account key, kubeconfigs.

Invariant: calling it again over the same folder changes nothing that is still valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.argv import SERVICE_ADDRESS, Credentials
from wharf.cli.kube.kubeconfig import access, write
from wharf.cli.kube.pki import Authority, KeyPair, signing_key

_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
    SERVICE_ADDRESS,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A client of the apiserver: file name, user and groups."""

    name: str
    user: str
    groups: tuple[str, ...] = ()


ADMIN = Identity("admin", "wharf-admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")


def prepare(folder: Path, addresses: Sequence[str] = ()) -> Credentials:
    """Everything but kubeconfigs; `addresses` are further names the apiserver's certificate must carry."""
    authority = Authority(folder)
    front_proxy = Authority(folder, "front-proxy-ca")
    return Credentials(
        ca=authority.pair,
        apiserver=authority.server("apiserver", (*_NAMES, *addresses)),
        kubelet_client=authority.client(
            "apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)
        ),
        front_proxy_ca=front_proxy.pair,
        front_proxy_client=front_proxy.client("front-proxy-client", "front-proxy-client"),
        controllers=authority.server("controllers", ("localhost", "127.0.0.1")),
        service_account=signing_key(folder, "service-account"),
        admin=authority.client(ADMIN.name, ADMIN.user, ADMIN.groups),
    )


def client_pair(folder: Path, identity: Identity) -> KeyPair:
    """A client certificate of the authority in `folder`."""
    return Authority(folder).client(identity.name, identity.user, identity.groups)


def kubeconfig(
    folder: Path, path: Path, server: str, identity: Identity, others: Mapping[str, str] | None = None
) -> Path:
    """A kubeconfig for an identity, signed by the authority in `folder`; `others`: further contexts, name → server."""
    authority = Authority(folder)
    pair = authority.client(identity.name, identity.user, identity.groups)
    return write(path, access(server, authority.cert, pair, identity.user, others))
