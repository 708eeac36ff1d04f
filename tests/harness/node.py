"""A real node: containerd, kubelet and kube-proxy in a sandbox, joined to a control plane.

It owns their configuration. Invariant: everything runs inside the sandbox's namespaces and ends with it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from wharf.cli.kube.binaries import locate
from wharf.cli.kube.credentials import Identity, kubeconfig
from wharf.cli.kube.pki import Authority
from wharf.cli.kube.process import Process

from harness.cluster import Cluster
from harness.images import PAUSE, write_archives
from harness.sandbox import Sandbox, run

NAME = "wharf-node"
POD_CIDR = "10.88.0.0/16"
_CNI_BINARIES = "/usr/lib/cni"
_READY_SECONDS = 60.0


class Node:
    """One node of a control plane that listens on the sandbox's outside address.

    With `dns`, pods ask a name server on the node's own address, which somebody else starts.
    """

    def __init__(self, sandbox: Sandbox, cluster: Cluster, *, dns: bool = False) -> None:
        self.sandbox, self.cluster = sandbox, cluster
        self._dns = dns
        self._plane = cluster.plane
        self._folder = sandbox.folder
        self._socket = self._folder / "containerd.sock"
        self.processes: list[Process] = []

    def start(self) -> Node:
        """containerd with its images, kubelet, kube-proxy; the node registers itself."""
        containerd = self._run("containerd", ["containerd", "--config", self._containerd_config()])
        containerd.wait_ready(self._socket.exists, _READY_SECONDS)
        containerd.wait_logged("containerd successfully booted", _READY_SECONDS)
        self._import_images()
        kubelet = locate("kubelet", search_path=False, report=lambda _: None)
        identity = Identity("kubelet", f"system:node:{NAME}", ("system:nodes",))
        kubelet_kubeconfig = kubeconfig(self._plane.pki, self._folder / "kubelet.kubeconfig", self._plane.url, identity)
        self._run(
            "kubelet",
            [
                kubelet,
                f"--config={self._kubelet_config()}",
                f"--kubeconfig={kubelet_kubeconfig}",
                f"--root-dir={self._folder / 'kubelet'}",
                f"--hostname-override={NAME}",
                f"--node-ip={self.sandbox.inside}",
            ],
        )
        self._start_kube_proxy()
        return self

    def _run(self, name: str, words: list[str | Path]) -> Process:
        process = self.sandbox.process(name, words).start()
        self.processes.append(process)
        return process

    def _start_kube_proxy(self) -> None:
        binary = locate("kube-proxy", search_path=False, report=lambda _: None)
        identity = Identity("kube-proxy", "system:kube-proxy")
        config = kubeconfig(self._plane.pki, self._folder / "kube-proxy.kubeconfig", self._plane.url, identity)
        self._run(
            "kube-proxy",
            [
                binary,
                "--proxy-mode=iptables",
                f"--cluster-cidr={POD_CIDR}",
                f"--kubeconfig={config}",
                f"--hostname-override={NAME}",
                # Connection tracking limits belong to the whole machine: leave them.
                "--conntrack-max-per-core=0",
                "--conntrack-min=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ],
        )

    def _containerd_config(self) -> Path:
        cni = self._folder / "cni"
        cni.mkdir(exist_ok=True)
        plugins: list[dict[str, object]] = [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(self._folder / "ipam"),
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        network = {"cniVersion": "0.4.0", "name": "wharf", "plugins": plugins}
        (cni / "10-wharf.conflist").write_text(json.dumps(network))
        config = self._folder / "containerd.toml"
        # restrict_oom_score_adj: without CAP_SYS_RESOURCE no process may be made less likely to be killed.
        config.write_text(f"""version = 2
root = "{self._folder}/containerd-root"
state = "{self._folder}/containerd-state"
[grpc]
  address = "{self._socket}"
[ttrpc]
  address = "{self._socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_CNI_BINARIES}"
    conf_dir = "{cni}"
""")
        return config

    def _kubelet_config(self) -> Path:
        authority = Authority(self._plane.pki)
        serving = authority.server("kubelet-serving", (NAME, self.sandbox.inside))
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.sandbox.inside,
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.cert)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.cert),
            "tlsPrivateKeyFile": str(serving.key),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.sandbox.cgroup,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "podLogsDir": str(self._folder / "pod-logs"),
            "volumePluginDir": str(self._folder / "volume-plugins"),
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "syncFrequency": "10s",  # how soon a changed ConfigMap reaches its pod
        }
        if self._dns:
            settings |= {"clusterDNS": [self.sandbox.inside], "clusterDomain": "cluster.local"}
        path = self._folder / "kubelet.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    def _import_images(self) -> None:
        busybox = shutil.which("busybox")
        assert busybox is not None, "asked for by missing_requirements"
        for archive in write_archives(Path(busybox), self._folder):
            self.import_images(archive)

    def import_images(self, archive: Path) -> None:
        """Images that pods may then name; nothing is pulled here."""
        self._ctr("images", "import", archive)

    def kill_container(self, identifier: str) -> None:
        """SIGKILL to a container's process, by the id in its pod's status ("containerd://…")."""
        self._ctr("tasks", "kill", "--signal", "SIGKILL", identifier.removeprefix("containerd://"))

    def _ctr(self, *words: str | Path) -> None:
        run(*self.sandbox.enter("ctr", "--address", self._socket, "--namespace", "k8s.io", *words))

    def stop(self) -> None:
        """Kubelet and kube-proxy first: nobody restarts what is being ended. Containers end with the sandbox."""
        for process in reversed(self.processes):
            process.stop()

    def logs(self) -> str:
        """The ends of all logs, for people."""
        return "\n".join(f"==== {one.name} ({one.log})\n{one.tail()}" for one in self.processes)
