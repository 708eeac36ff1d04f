"""Namespaces of its own for a node: network, mounts and processes that vanish with one process.

A kubelet leaves traces: iptables chains, bridges, mounts, shims that outlive their parent, kernel settings. Here it all
happens inside namespaces held by one process. Invariant: when that process is dead, nothing of the node is left but
files in its folder and its (empty) cgroups, which `stop` removes; the machine's own network and settings are untouched.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from wharf.cli.kube.process import Process

# What a kubelet sets for the whole machine; inside it writes to copies instead.
_KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_END_SECONDS = 30.0
_ENTER_SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p {folder}/sysctl
for setting in {settings}; do
  if [ -e /proc/sys/$setting ]; then
    copy={folder}/sysctl/$(echo $setting | tr / _)
    cat /proc/sys/$setting > $copy
    mount --bind $copy /proc/sys/$setting
  fi
done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo namespaces ready
while :; do sleep 3600; done
"""


class SandboxError(RuntimeError):
    """A command inside or around the namespaces failed."""


def run(*words: str | Path) -> str:
    """A command that must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SandboxError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Sandbox:
    """The namespaces and a link into them. `outside` is this machine's end, `inside` the node's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        number = os.getpid()
        # The benchmarking range (RFC 2544) is routed nowhere; a /30 per test process keeps runs apart.
        block, offset = (number >> 6) & 0xFF, (number & 0x3F) << 2
        self.outside, self.inside = f"198.18.{block}.{offset + 1}", f"198.18.{block}.{offset + 2}"
        self.cgroup = f"/wharf-test-{number}"
        self._link = f"wharf{number & 0xFFFFF}"
        script = _ENTER_SCRIPT.format(folder=folder, settings=" ".join(_KERNEL_SETTINGS))
        words = ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self._holder = Process("namespaces", [*words, "sh", "-c", script], folder / "namespaces.log")
        self._pid = 0

    def start(self) -> Sandbox:
        """Make the namespaces and the link; on failure nothing is left."""
        try:
            self._holder.start()
            self._holder.wait_logged("namespaces ready", 20)
            holder = self._holder.pid
            self._pid = int(Path(f"/proc/{holder}/task/{holder}/children").read_text().split()[0])
            run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid))
            run("ip", "address", "add", f"{self.outside}/30", "dev", self._link)
            run("ip", "link", "set", self._link, "up")
            run(*self.enter("ip", "address", "add", f"{self.inside}/30", "dev", "eth0"))
            run(*self.enter("ip", "link", "set", "eth0", "up"))
            run(*self.enter("ip", "route", "add", "default", "via", self.outside))
            self._make_cgroups()
        except BaseException:
            self.stop()
            raise
        return self

    def enter(self, *words: str | Path) -> list[str]:
        """The command line that runs a command inside."""
        return ["nsenter", "-t", str(self._pid), "--net", "--mount", "--pid", "--ipc", *map(str, words)]

    def process(self, name: str, words: Sequence[str | Path]) -> Process:
        """A process inside, not started yet."""
        return Process(name, self.enter(*words), self.folder / f"{name}.log")

    def stop(self) -> None:
        """End everything inside: with the holder its process namespace dies, and so every shim and container."""
        end = None
        with contextlib.suppress(ProcessLookupError):
            end = os.pidfd_open(self._pid) if self._pid else None
        self._holder.kill()
        if end is not None:  # the first process of the namespace is over when all the others are
            select.select([end], [], [], _END_SECONDS)
            os.close(end)
        subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
        for hierarchy in self._hierarchies():
            group = hierarchy / self.cgroup.strip("/")
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:  # a process cannot die (it waits for a device); a cgroup does no harm
                    break

    def _make_cgroups(self) -> None:
        for hierarchy in self._hierarchies():
            (hierarchy / self.cgroup.strip("/")).mkdir(exist_ok=True)
        # cpuset (v1) starts without CPUs and memory, and nothing can be put into it then.
        cpuset = Path("/sys/fs/cgroup/cpuset")
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (cpuset / name).exists():
                (cpuset / self.cgroup.strip("/") / name).write_text((cpuset / name).read_text())

    @staticmethod
    def _hierarchies() -> list[Path]:
        root = Path("/sys/fs/cgroup")
        if (root / "cgroup.controllers").exists():
            return [root]
        return [child for child in root.iterdir() if child.is_dir() and not child.is_symlink()]


def missing_requirements() -> list[str]:
    """What this machine lacks to run containers; empty when it can."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    programs = ("containerd", "ctr", "runc", "iptables", "conntrack", "ip", "nsenter", "unshare", "busybox")
    lacking += [name for name in programs if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    lacking += [] if Path("/usr/lib/cni/bridge").exists() else ["CNI plugins in /usr/lib/cni"]
    if not lacking:
        probe = subprocess.run(
            ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
        )
        lacking += [] if probe.returncode == 0 else ["the right to make namespaces"]
    return lacking
