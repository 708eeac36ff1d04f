"""The chart's replicated mode on a real node: what it stands on as plain manifests, and ways to ask the store.

The addresses of PostgreSQL, Redis and NATS are chosen here, because there is no DNS on the node; their certificates
carry them. Invariant: nothing but the chart makes brain's own objects.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from wharf.cli.kube.build import build
from wharf.cli.kube.pki import Authority, KeyPair

from harness.containers import ROOT
from harness.kubectl import Kubectl
from harness.node import Node

NAMESPACE = "kube-store"
NAME = "store-brain"  # what the chart makes of the release "store"
ADDRESSES = {"postgres": "10.96.0.54", "redis": "10.96.0.63", "nats": "10.96.0.42"}
_PORTS = {"postgres": 5432, "redis": 6379, "nats": 4222}
_COMMANDS = {
    "postgres": ["/opt/wharf/share/postgres.sh"],
    "redis": ["redis-server", "/opt/wharf/share/redis.conf"],
    "nats": ["nats-server", "--config", "/opt/wharf/share/nats.conf"],
}
_MOUNTED = "/etc/wharf/backing"


@dataclass
class Release:
    """One `helm install store charts/wharf` and the servers behind it."""

    node: Node
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kubectl: Kubectl = self.node.cluster.kubectl
        self._store, self._peer, self._backing = (
            Authority(self.folder / name, f"{name}-ca") for name in ("store", "peer", "backing")
        )

    def client_pair(self) -> KeyPair:
        """What opens the client port."""
        return self._store.client("client", "kube-apiserver")

    def peer_pair(self) -> KeyPair:
        """What opens the control port."""
        return self._peer.server("peer", (f"{NAME}-nodes.{NAMESPACE}.svc",))

    def prepare(self) -> None:
        """The namespace, every Secret, and PostgreSQL, Redis and NATS, serving."""
        self.node.cluster.create_namespace(NAMESPACE)
        self._make_secrets()
        for name in ADDRESSES:
            self.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(_server(name)))
        for name in ADDRESSES:
            self.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")

    def _make_secrets(self) -> None:
        service = f"{NAME}.{NAMESPACE}.svc"
        self._pair_secret("brain-tls", self._store, self._store.server("server", (service,)))
        self._pair_secret("brain-peer", self._peer, self.peer_pair())
        self._pair_secret("brain-backing", self._backing, self._backing.client("brain", "wharf"))
        passwords = {name: secrets.token_urlsafe(12) for name in ("postgres", "redis")}
        extra = {
            "postgres": {"password": passwords["postgres"]},
            "redis": {"auth.conf": f"requirepass {passwords['redis']}"},
        }
        for name, address in ADDRESSES.items():
            pair = self._backing.server(name, (address, "127.0.0.1"))
            self._pair_secret(name, self._backing, pair, **extra.get(name, {}))
        self._secret("brain-urls", _urls(passwords))

    def _pair_secret(self, name: str, authority: Authority, pair: KeyPair, **extra: str) -> None:
        files = {"ca.crt": authority.cert, "tls.crt": pair.cert, "tls.key": pair.key}
        self._secret(name, {key: path.read_text() for key, path in files.items()} | extra)

    def _secret(self, name: str, content: dict[str, str]) -> None:
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        self.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(document))

    def helm(self, *words: str) -> str:
        """Helm in the release's namespace."""
        home = {**os.environ, "HELM_CACHE_HOME": str(self.folder), "HELM_CONFIG_HOME": str(self.folder)}
        command = [
            str(build(["helm"])["helm"]),
            f"--kubeconfig={self.kubectl.kubeconfig}",
            f"--namespace={NAMESPACE}",
            *words,
        ]
        done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"helm {words[0]}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def install(self, verb: str, *pairs: str) -> None:
        """`helm install` or `upgrade` of the replicated mode; returns when its pods are ready and those before gone.

        Helm itself waits for the new pods only; the controller takes the last of the old ones away after that.
        """
        values = [
            "brain.mode=replicated",
            "brain.tls.secretName=brain-tls",
            "brain.replicated.existingSecret=brain-urls",
            "brain.replicated.peerTls.secretName=brain-peer",
            "brain.replicated.backingTls.secretName=brain-backing",
            "brain.replicated.backingTls.clientCert=true",
            "brain.replicated.drainDelaySeconds=2",
            "brain.resources.requests.cpu=50m",
            "brain.resources.requests.memory=64Mi",
            *pairs,
        ]
        chart = str(ROOT / "charts" / "wharf")
        self.helm(verb, "store", chart, *(f"--set={pair}" for pair in values), "--wait", "--timeout=180s")
        self.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=60s")

    def etcdctl(self, *words: str, endpoints: str = f"https://{NAME}.{NAMESPACE}.svc:2379") -> str:
        """etcdctl on the node; through the Service, by the name its certificate carries, unless told otherwise."""
        address = self.kubectl.json("-n", NAMESPACE, "get", "service", NAME)["spec"]["clusterIP"]
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}.{NAMESPACE}.svc\n")
        client = self.client_pair()
        tls = [f"--cacert={self._store.cert}", f"--cert={client.cert}", f"--key={client.key}"]
        command = [str(build(["etcdctl"])["etcdctl"]), f"--endpoints={endpoints}", *tls, *words]
        named = ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "etcdctl"]
        done = subprocess.run(
            self.node.sandbox.enter(*named, *command), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"etcdctl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def pods(self) -> dict[str, str]:
        """Brain's pods that are not on their way out: name → address ("" as long as there is none)."""
        words = ("get", "pods", "-l", "app.kubernetes.io/component=brain")
        listed = self.kubectl.json("-n", NAMESPACE, *words)["items"]
        staying = [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]
        return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in staying}

    def leaders(self) -> dict[str, bool]:
        """Each pod and whether it leads; asked by addresses, which no certificate can know before."""
        pods = self.pods()
        endpoints = ",".join(f"https://{address}:2379" for address in pods.values())
        words = ("endpoint", "status", "--insecure-skip-tls-verify", "--write-out=json")
        listed: list[dict[str, Any]] = json.loads(self.etcdctl(*words, endpoints=endpoints))
        status = {one["Endpoint"]: one["Status"] for one in listed}
        return {
            name: status[url].get("leader") == status[url]["header"]["member_id"]
            for name, address in pods.items()
            if (url := f"https://{address}:2379") in status
        }

    def logs(self) -> str:
        """What pods look like and last said, for people."""
        parts = [self.kubectl("-n", NAMESPACE, "get", "pods", "-o", "wide")]
        parts.append(self.kubectl("-n", NAMESPACE, "get", "events"))
        parts.append(
            self.kubectl("-n", NAMESPACE, "logs", "--tail=20", "--prefix", "-l", "app.kubernetes.io/name=wharf")
        )
        return "\n".join(parts)


def _urls(passwords: dict[str, str]) -> dict[str, str]:
    files = [f"{_MOUNTED}/{name}" for name in ("ca.crt", "tls.crt", "tls.key")]
    postgres = urlencode(
        {"sslmode": "verify-full"} | dict(zip(("sslrootcert", "sslcert", "sslkey"), files, strict=True)), safe="/"
    )
    redis = urlencode(dict(zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), files, strict=True)), safe="/")
    return {
        "engine": f"postgresql://wharf:{passwords['postgres']}@{ADDRESSES['postgres']}:5432/wharf?{postgres}",
        "redis": f"rediss://:{passwords['redis']}@{ADDRESSES['redis']}:6379/0?{redis}",
        "nats": f"tls://{ADDRESSES['nats']}:4222",
    }


def _server(name: str) -> dict[str, Any]:
    """A Deployment of one pod and its Service."""
    labels = {"app": name}
    container = {
        "name": name,
        "image": "wharf-backing:0.1.0",
        "command": _COMMANDS[name],
        "ports": [{"containerPort": _PORTS[name]}],
        "readinessProbe": {"tcpSocket": {"port": _PORTS[name]}, "periodSeconds": 1, "failureThreshold": 60},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "pki", "mountPath": "/pki"},
            {"name": "data", "mountPath": "/var/lib/wharf"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        "containers": [container],
        "volumes": [
            {"name": "pki", "secret": {"secretName": name, "defaultMode": 0o440}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    ports = [{"port": _PORTS[name]}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "clusterIP": ADDRESSES[name], "ports": ports},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [deployment, service]}
