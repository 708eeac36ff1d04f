"""A Go module made on the spot, for a Kubernetes release other than the pinned one.

`k8s.io/kubernetes` cannot be installed by itself: its own go.mod points at folders of its repository for the staging
modules. The wrapper requires it and points each staging module at the release of the same number.
Invariant: what the wrapper says comes from the release's own go.mod, nothing is kept here by hand.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from wharf.cli.kube.toolchain import environment

_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")


class ReleaseError(RuntimeError):
    """The module proxy does not serve this release, or its module cannot be wrapped."""


def go_mod_text(release_go_mod: str, requirement: str, version: str) -> str:
    """The wrapper's go.mod for a release, given the release's own."""
    go_line = re.search(r"^go \S+$", release_go_mod, re.MULTILINE)
    staging = re.findall(r"^\s*(?:replace\s+)?(\S+) => \./staging/", release_go_mod, re.MULTILINE)
    if go_line is None or not staging:
        raise ReleaseError(f"the go.mod of {requirement} v{version} is not of the known form")
    staged = "v0." + version.split(".", 1)[1]
    replaces = "".join(f"\t{module} => {module} {staged}\n" for module in staging)
    return (
        f"module wharf.dev/kubernetes\n\n{go_line.group(0)}\n\n"
        f"require {requirement} v{version}\n\nreplace (\n{replaces})\n"
    )


def prepare(go: Path, version: str, requirement: str, root: Path, report: Callable[[str], None]) -> Path:
    """A folder with the wrapper module of a release, made (and its go.sum filled) when it is not there yet."""
    folder = root / f"kubernetes-{version}"
    if (folder / "go.sum").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    report(f"preparing the module of Kubernetes {version}")
    told = _go(go, ["mod", "download", "-json", f"{requirement}@v{version}"], root)
    release = Path(json.loads(told)["GoMod"]).read_text()
    (folder / "go.mod").write_text(go_mod_text(release, requirement, version))
    imports = "".join(f'\t_ "{requirement}/cmd/{command}"\n' for command in _COMMANDS)
    (folder / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\nimport (\n{imports})\n")
    try:
        _go(go, ["mod", "tidy"], folder)
    except ReleaseError:
        (folder / "go.sum").unlink(missing_ok=True)
        raise
    return folder


def _go(go: Path, arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [str(go), *arguments], cwd=folder, env=environment(os.environ), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip()
        raise ReleaseError(f"`go {' '.join(arguments)}` failed: {reason[-800:]}")
    return done.stdout
