"""The command lines of a control plane, from typed options. Pure: paths go in, words come out.

It owns which flags wharf sets and why. Invariant: every listener is on the address the options name (loopback unless
the caller says otherwise), and each connection between the parts is authenticated both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.pki import KeyPair

SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"  # the first of the range: `kubernetes.default`
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """The store's client endpoints and, over TLS, whom to trust and who one is."""

    urls: tuple[str, ...]
    ca: Path | None = None
    pair: KeyPair | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Every file a control plane reads, made by `credentials.prepare`."""

    ca: KeyPair
    apiserver: KeyPair
    kubelet_client: KeyPair
    front_proxy_ca: KeyPair
    front_proxy_client: KeyPair
    controllers: KeyPair  # serving certificate of controller-manager and scheduler
    service_account: KeyPair
    admin: KeyPair


@dataclass(frozen=True, slots=True)
class ApiserverOptions:
    """What differs between apiservers; None leaves the apiserver's own default."""

    port: int
    bind_address: str = "127.0.0.1"
    # Clients in pods would find the apiserver here. Loopback is refused by Kubernetes' own validation; without nodes
    # nobody uses the address, so a documentation address (RFC 5737), which is never routed, stands in.
    advertise_address: str = "192.0.2.1"
    storage_media_type: str | None = None
    event_ttl: str | None = None
    compaction_interval: str | None = None
    extra: tuple[str, ...] = ()


def apiserver(binary: Path, options: ApiserverOptions, etcd: EtcdAccess, files: Credentials) -> list[str]:
    """kube-apiserver's command line."""
    words = [
        str(binary),
        f"--bind-address={options.bind_address}",
        f"--secure-port={options.port}",
        f"--advertise-address={options.advertise_address}",
        f"--tls-cert-file={files.apiserver.cert}",
        f"--tls-private-key-file={files.apiserver.key}",
        f"--client-ca-file={files.ca.cert}",
        f"--kubelet-certificate-authority={files.ca.cert}",
        f"--kubelet-client-certificate={files.kubelet_client.cert}",
        f"--kubelet-client-key={files.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={files.front_proxy_client.cert}",
        f"--proxy-client-key-file={files.front_proxy_client.key}",
        f"--requestheader-client-ca-file={files.front_proxy_ca.cert}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={files.service_account.cert}",
        f"--service-account-signing-key-file={files.service_account.key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        *_etcd_flags(etcd),
    ]
    optional = {
        "--storage-media-type": options.storage_media_type,
        "--event-ttl": options.event_ttl,
        "--etcd-compaction-interval": options.compaction_interval,
    }
    words += [f"{flag}={value}" for flag, value in optional.items() if value is not None]
    return [*words, *options.extra]


def _etcd_flags(etcd: EtcdAccess) -> list[str]:
    words = [f"--etcd-servers={','.join(etcd.urls)}"]
    if etcd.ca is not None:
        words.append(f"--etcd-cafile={etcd.ca}")
    if etcd.pair is not None:
        words += [f"--etcd-certfile={etcd.pair.cert}", f"--etcd-keyfile={etcd.pair.key}"]
    return words


def controller_manager(
    binary: Path, port: int, kubeconfig: Path, files: Credentials, extra: Sequence[str] = ()
) -> list[str]:
    """kube-controller-manager's command line; it signs certificates of kubelets that ask."""
    return [
        str(binary),
        *_served_by(port, kubeconfig, files),
        f"--root-ca-file={files.ca.cert}",
        f"--service-account-private-key-file={files.service_account.key}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={files.ca.cert}",
        f"--cluster-signing-key-file={files.ca.key}",
        *extra,
    ]


def scheduler(binary: Path, port: int, kubeconfig: Path, files: Credentials, extra: Sequence[str] = ()) -> list[str]:
    """kube-scheduler's command line."""
    return [str(binary), *_served_by(port, kubeconfig, files), *extra]


def _served_by(port: int, kubeconfig: Path, files: Credentials) -> list[str]:
    """What controller-manager and scheduler have in common: one instance, so no leader election to wait for."""
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={files.controllers.cert}",
        f"--tls-private-key-file={files.controllers.key}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--profiling=false",
    ]
