"""Generate the committed protobuf modules from `proto/`.

Owns the map from source folders to packages. The invariant: what is committed is exactly what this
script writes, so `--check` generates into a scratch folder and names every file that differs.
Protoc writes imports relative to its include folder; they are rewritten to the package's real name,
because nothing here may sit at the top of the import path.
"""

import argparse
import filecmp
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"


@dataclass(frozen=True, slots=True)
class Target:
    """One folder of sources and the package its generated modules live in."""

    sources: str  # folder under proto/
    package: str  # dotted name of the generated package
    path: Path  # folder of that package, from the repository root
    services: bool  # also generate grpcio stubs and servicers


TARGETS = (
    Target("control", "wharf.common.pb.control", Path("libs/common/src/wharf/common/pb/control"), services=True),
    Target("etcd", "wharf.common.pb.etcd", Path("libs/common/src/wharf/common/pb/etcd"), services=True),
    Target("grpc", "wharf.wire.pb.grpc", Path("libs/wire/src/wharf/wire/pb/grpc"), services=False),
)


def rewrite_imports(text: str, target: Target) -> str:
    """`text` of a generated module with imports of its own folder made absolute."""
    name, package = re.escape(target.sources), target.package
    text = re.sub(rf"^from {name} import ", f"from {package} import ", text, flags=re.MULTILINE)
    text = re.sub(rf"^import {name}\.(\w+) as ", rf"import {package}.\1 as ", text, flags=re.MULTILINE)
    text = re.sub(rf"^from {name}\.(\w+) import ", rf"from {package}.\1 import ", text, flags=re.MULTILINE)
    text = re.sub(rf"^import {name}\.(\w+)$", rf"import {package}.\1", text, flags=re.MULTILINE)
    return re.sub(rf"(?<![\w./\"']){name}\.(\w+_pb2)\.", rf"{package}.\1.", text)


def generate(target: Target, out: Path) -> None:
    """Write the modules of `target` under `out`, laid out as in the repository."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / target.sources).glob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [f"--python_out={scratch}", f"--mypy_out=quiet:{scratch}"]
        if target.services:
            outputs += [f"--grpc_python_out={scratch}", f"--mypy_grpc_out=quiet:{scratch}"]
        if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *outputs, *sources]) != 0:
            raise SystemExit(f"protoc refused the sources of proto/{target.sources}")
        folder = out / target.path
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*_pb2*"):
            old.unlink()
        for made in sorted((Path(scratch) / target.sources).iterdir()):
            if "_pb2_grpc." in made.name and "class " not in made.with_suffix(".py").read_text():
                continue  # a source without a service
            (folder / made.name).write_text(rewrite_imports(made.read_text(), target))


def differences(left: Path, right: Path) -> list[str]:
    """Names of generated files that are missing on a side or differ."""
    names = {path.name for folder in (left, right) for path in folder.glob("*_pb2*")}
    _, mismatch, missing = filecmp.cmpfiles(left, right, names, shallow=False)
    return sorted(mismatch + missing)


def main() -> int:
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where the protoc plugins are
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the committed files differ")
    options = parser.parse_args()
    if not options.check:
        for target in TARGETS:
            generate(target, ROOT)
        return 0
    stale: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for target in TARGETS:
            generate(target, Path(scratch))
            stale += [str(target.path / name) for name in differences(ROOT / target.path, Path(scratch) / target.path)]
    for name in stale:
        print(f"{name} is not what `make proto` writes; run it and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
