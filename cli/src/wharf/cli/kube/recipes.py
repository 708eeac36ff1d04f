"""What can be built from Go modules, and how: the one table that `wharf up`, the tests and the Makefile share.

It owns names, module folders, Go packages and version stamps. Versions themselves live in the `go.mod` of each module
and nowhere else. Invariant: pure, nothing here reads a file or runs a program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_KUBERNETES = "k8s.io/kubernetes"
_ETCD = "go.etcd.io/etcd/server/v3"
_GINKGO = "github.com/onsi/ginkgo/v2"
_STAMP = "k8s.io/component-base/version"


class UnknownToolError(LookupError):
    """A name that no recipe knows."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown program {name!r}; known: {', '.join(sorted(RECIPES))}")
        self.name = name


class NotPinnedError(ValueError):
    """A go.mod that does not require the module whose version a recipe takes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one program is built and how it tells its version."""

    name: str
    module: PurePosixPath  # folder of the Go module, relative to the source tree
    package: str  # Go import path of the main package
    requirement: str  # module path whose pinned version is the program's version
    version_args: tuple[str, ...]  # empty: the program cannot tell
    cold_seconds: int  # on two cores with an empty Go cache; shown to whoever waits
    in_setup: bool = True  # else built by whoever first asks for it: minutes that few need
    tests: bool = False  # the package's tests as a program, not the package
    static: bool = False  # no libraries, so that it runs in an image that holds nothing else

    @property
    def stamped(self) -> bool:
        """Kubernetes learns its version from the linker; the others carry theirs in the source."""
        return self.requirement == _KUBERNETES

    def ldflags(self, version: str) -> str:
        """Linker flags: no symbol tables, and the version where the program expects it from the linker."""
        plain = "-s -w -linkmode external -extldflags -static" if self.static else "-s -w"
        if not self.stamped:
            return plain
        major, minor, _ = version.split(".", 2)
        return (
            f"{plain} -X {_STAMP}.gitVersion=v{version} -X {_STAMP}.gitMajor={major} -X {_STAMP}.gitMinor={minor}"
            f" -X {_STAMP}.gitTreeState=clean"
        )

    @property
    def verb(self) -> tuple[str, ...]:
        """The words after `go`."""
        return ("test", "-c", "-vet=off") if self.tests else ("build",)


def _kube(name: str, cold_seconds: int) -> Recipe:
    args = ("version", "--client") if name == "kubectl" else ("--version",)
    module = PurePosixPath("tests/cluster/apiserver")
    return Recipe(name, module, f"{_KUBERNETES}/cmd/{name}", _KUBERNETES, args, cold_seconds)


def _conformance(name: str, package: str, requirement: str, cold_seconds: int, **kind: bool) -> Recipe:
    """They are quick after the control plane, with which they share most packages."""
    return Recipe(name, _TOOLS / "conformance", package, requirement, (), cold_seconds, in_setup=False, **kind)


_TOOLS = PurePosixPath("tests/cluster/tools")
OLD_KUBECTL = "kubectl-1.31"  # the oldest that the gateway is proven with

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _kube("kube-apiserver", 300),
        _kube("kube-controller-manager", 100),
        _kube("kube-scheduler", 15),
        _kube("kubectl", 35),
        _kube("kubelet", 60),
        _kube("kube-proxy", 20),
        Recipe(
            name="etcd",
            module=_TOOLS / "etcd",
            package=_ETCD,
            requirement=_ETCD,
            version_args=("--version",),
            cold_seconds=60,
        ),
        Recipe(
            name="etcdctl",
            module=_TOOLS / "etcd",
            package="go.etcd.io/etcd/etcdctl/v3",
            requirement="go.etcd.io/etcd/etcdctl/v3",
            version_args=("version",),
            cold_seconds=20,
        ),
        Recipe(
            name="helm",
            module=_TOOLS / "helm",
            package="helm.sh/helm/v3/cmd/helm",
            requirement="helm.sh/helm/v3",
            version_args=("version", "--short"),
            cold_seconds=110,
        ),
        Recipe(
            name="h2spec",
            module=_TOOLS / "h2spec",
            package="github.com/summerwind/h2spec/cmd/h2spec",
            requirement="github.com/summerwind/h2spec",
            version_args=(),  # built from source it only knows "dev"
            cold_seconds=15,
        ),
        Recipe(
            name="grpc-interop-client",
            module=_TOOLS / "grpcinterop",
            package="google.golang.org/grpc/interop/client",
            requirement="google.golang.org/grpc",
            version_args=(),
            cold_seconds=40,
        ),
        Recipe(
            name=OLD_KUBECTL,
            module=_TOOLS / "kubectl131",
            package=f"{_KUBERNETES}/cmd/kubectl",
            requirement=_KUBERNETES,
            version_args=("version", "--client"),
            cold_seconds=90,
        ),
        Recipe(
            name="kine",
            module=_TOOLS / "kine",
            package="github.com/k3s-io/kine",
            requirement="github.com/k3s-io/kine",
            version_args=(),  # built from source it only knows "dev"
            cold_seconds=200,
            in_setup=False,
        ),
        Recipe(
            name="coredns",
            module=_TOOLS / "coredns",
            package="wharf.dev/tests/cluster/tools/coredns/services",
            requirement="github.com/coredns/coredns",
            version_args=(),
            cold_seconds=100,
            in_setup=False,
        ),
        _conformance("e2e.test", f"{_KUBERNETES}/test/e2e", _KUBERNETES, 400, tests=True),
        _conformance("agnhost", f"{_KUBERNETES}/test/images/agnhost", _KUBERNETES, 100, static=True),
        _conformance("sample-apiserver", "k8s.io/sample-apiserver", _KUBERNETES, 100, static=True),
        Recipe(
            name="etcd-static",
            module=_TOOLS / "etcd",
            package=_ETCD,
            requirement=_ETCD,
            version_args=("--version",),
            cold_seconds=60,
            in_setup=False,
            static=True,
        ),
        _conformance("ginkgo", f"{_GINKGO}/ginkgo", _GINKGO, 20),
    )
}

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy")
CONFORMANCE_IMAGES = ("agnhost", "sample-apiserver", "etcd-static")
CONFORMANCE = (*CONFORMANCE_IMAGES, "ginkgo", "e2e.test", "coredns")


def recipe(name: str) -> Recipe:
    """The recipe called `name`."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownToolError(name) from None


def pinned_version(go_mod: str, requirement: str) -> str:
    """The version (without "v" and "+incompatible") at which a go.mod text requires a module."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(requirement)}\s+v(\d[^\s+]*)", go_mod, re.MULTILINE)
    if found is None:
        raise NotPinnedError(f"go.mod does not require {requirement}")
    return found.group(1)


def version_in(output: str) -> str | None:
    """The first thing that looks like a release ("1.36.3") in what a program printed about itself."""
    found = re.search(r"\bv?(\d+\.\d+\.\d+)\b", output)
    return found.group(1) if found else None
