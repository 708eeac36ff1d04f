"""Certificates, passwords and kubeconfigs of the compose file; what is there and valid is kept.

Four authorities, so that no credential opens more than one door: the API's, the store's clients', the control port
between brains, and what stands behind them (PostgreSQL, Redis, NATS). Their keys stay in `home`, which no other service
mounts; each service finds in `out/<service>` what it needs and nothing else.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from urllib.parse import urlencode

import yaml
from wharf.cli.kube.credentials import ADMIN, CONTROLLER_MANAGER, SCHEDULER, kubeconfig, prepare
from wharf.cli.kube.pki import Authority, KeyPair

APISERVERS = ("kube-apiserver-1", "kube-apiserver-2")
INSIDE = "https://kube-apiserver:6443"  # either of them
OUTSIDE = "https://localhost:6443"  # the gateway, which tells clusters by name
DIRECT = "https://127.0.0.1:16443"
BRAINS = ("brain-1", "brain-2", "brain-3")
LOCAL = ("localhost", "127.0.0.1")
BACKING = ("postgres", "redis", "nats")
AT = "/pki"  # where a service has its folder mounted
BACKING_FILES = tuple(f"{AT}/backing/{name}" for name in ("ca.crt", "tls.crt", "tls.key"))
NATS = "tls://nats:4222"


def main(home: Path, out: Path) -> None:
    """Make everything the services of docker-compose.yml read."""
    store, control, backing = (Authority(home / name, f"{name}-ca") for name in ("store", "control", "backing"))
    passwords = {name: password(home / f"{name}.password") for name in ("postgres", "redis", "redis-gateway")}

    hand_out_pair(out / "brain" / "client", store.cert, store.server("brain", (*BRAINS, *LOCAL)))
    hand_out_pair(out / "brain" / "peer", control.cert, control.server("brain", BRAINS))
    hand_out_pair(out / "brain" / "backing", backing.cert, backing.client("brain", "wharf"))
    put(out / "brain" / "brain.yaml", yaml.safe_dump(urls(passwords)).encode())
    hand_out_pair(out / "gateway" / "backing", backing.cert, backing.client("gateway", "gateway"))
    shared = {"redis": redis_url(f"gateway:{passwords['redis-gateway']}"), "nats": NATS}
    put(out / "gateway" / "gateway.yaml", yaml.safe_dump(shared).encode())

    for name in BACKING:
        hand_out_pair(out / name, backing.cert, backing.server(name, (name, *LOCAL)))
    put(out / "postgres" / "password", passwords["postgres"].encode())
    put(out / "redis" / "auth.conf", redis_users(passwords).encode())

    kube = home / "kube"
    files = prepare(kube, ("kube-apiserver", *APISERVERS))
    hand_out_pair(out / "gateway" / "serving", files.ca.cert, Authority(kube).server("gateway", ("gateway", *LOCAL)))
    hand_out_pair(out / "gateway" / "upstream", files.ca.cert, files.front_proxy_client)
    for identity in (CONTROLLER_MANAGER, SCHEDULER, ADMIN):
        kubeconfig(kube, out / "kube" / f"{identity.name}.kubeconfig", INSIDE, identity)
    kubeconfig(kube, out / "kube" / "kubeconfig", OUTSIDE, ADMIN, {"wharf-direct": DIRECT})
    for file in kube.iterdir():
        if not file.name.endswith("ca.key") and not file.name.startswith("gateway."):
            put(out / "kube" / "kube" / file.name, file.read_bytes())
    hand_out_pair(out / "kube" / "store", store.cert, store.client("apiserver", "kube-apiserver"))


def urls(passwords: dict[str, str]) -> dict[str, str]:
    """Where the brains find what they share; with the passwords, hence in a file and not among the flags."""
    postgres = dict(zip(("sslrootcert", "sslcert", "sslkey"), BACKING_FILES, strict=True))
    query = urlencode({"sslmode": "verify-full", **postgres}, safe="/")
    return {
        "engine": f"postgresql://wharf:{passwords['postgres']}@postgres:5432/wharf?{query}",
        "redis": redis_url(f":{passwords['redis']}"),
        "nats": NATS,
    }


def redis_url(who: str) -> str:
    """Redis for a service whose pair is mounted in the usual place; `who` is USER:PASSWORD."""
    files = dict(zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), BACKING_FILES, strict=True))
    return f"rediss://{who}@redis:6379/0?{urlencode(files, safe='/')}"


def redis_users(passwords: dict[str, str]) -> str:
    """Redis' configuration of who may what: brains everything, gateways their limits only."""
    return (
        f"requirepass {passwords['redis']}\n"
        f"user gateway on >{passwords['redis-gateway']} ~wharf:gateway:* +@all -@admin -@dangerous\n"
    )


def password(file: Path) -> str:
    """The password kept in a file, made at the first call."""
    if not file.exists():
        put(file, secrets.token_urlsafe(24).encode())
    return file.read_text()


def hand_out_pair(folder: Path, authority: Path, pair: KeyPair) -> None:
    """A certificate, its key and whom to trust, under the names that Kubernetes Secrets have too."""
    for name, file in (("ca.crt", authority), ("tls.crt", pair.cert), ("tls.key", pair.key)):
        put(folder / name, file.read_bytes())


def put(file: Path, content: bytes) -> None:
    """Write a file for its owner only, whole or not at all; leave it alone when nothing changed."""
    if file.exists() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    fresh.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
