"""Build the members' Cython modules in place, only what changed, safe beside running processes.

Each `.pyx` under a member's `src` is one module; the member's setup.py says what it links. It is built into
`build/` and then moved into `src` by rename: a process that has the old library mapped keeps it, and nobody
ever loads half a file. One source that does not compile does not hold up the others.
A lock lets only one build run at a time.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = ("libs/wire", "services/brain")
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))


@dataclass(frozen=True, slots=True)
class Module:
    """One Cython source of one member."""

    member: Path
    source: Path  # the .pyx

    @property
    def name(self) -> str:
        return ".".join(self.source.relative_to(self.member / "src").with_suffix("").parts)

    @property
    def library(self) -> Path:
        return self.source.with_name(self.source.stem + SUFFIX)

    @property
    def stamp(self) -> Path:
        return self.member / "build" / f"{self.name}{SUFFIX}.stamp"


def modules() -> Iterator[Module]:
    for member in MEMBERS:
        for source in sorted((ROOT / member / "src").rglob("*.pyx")):
            yield Module(ROOT / member, source)


def fingerprint(module: Module) -> str:
    """Content of all the module is made of, and the versions of what compiles it."""
    digest = hashlib.sha256(f"{sys.version} {version('cython')} {version('setuptools')}".encode())
    shared = [path for pattern in ("*.pxd", "*.pxi", "*.h") for path in sorted((module.member / "src").rglob(pattern))]
    for path in (module.member / "setup.py", module.source, *shared):
        digest.update(f"\0{path.relative_to(module.member)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build(module: Module, force: bool) -> bool:
    """Bring one module up to date; False when it could not be built."""
    wanted = fingerprint(module)
    if not force and module.library.exists() and module.stamp.exists() and module.stamp.read_text() == wanted:
        return True
    print(f"build {module.name}", flush=True)
    scratch = module.member / "build"
    made = scratch / f"lib-{sys.implementation.cache_tag}"
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--force"]
    command += ["--build-lib", str(made), "--build-temp", str(scratch / f"objects-{sys.implementation.cache_tag}")]
    environment = {**os.environ, "WHARF_EXTENSION": module.name}
    done = subprocess.run(
        command,
        cwd=module.member,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    library = made / module.library.relative_to(module.member / "src")
    if done.returncode != 0 or not library.exists():
        hint = "is it listed in setup.py?" if done.returncode == 0 else "the compiler's words are above"
        print(f"{done.stdout}\n{module.name} could not be built: {hint}", file=sys.stderr)
        return False
    fresh = module.library.with_name(f".{module.library.name}.{os.getpid()}")
    shutil.copy2(library, fresh)
    fresh.replace(module.library)
    module.stamp.write_text(wanted)
    return True


def drop_orphans() -> None:
    """Remove libraries whose source is gone, so that an old one is not imported for ever."""
    for member in MEMBERS:
        for library in (ROOT / member / "src").rglob("*.so"):
            if not (library.parent / f"{library.name.split('.')[0]}.pyx").exists():
                library.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the Cython modules of the workspace in place.")
    parser.add_argument("--force", action="store_true", help="rebuild even what did not change")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "extensions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        drop_orphans()
        with ThreadPoolExecutor(os.cpu_count()) as compilers:
            results = list(compilers.map(lambda module: build(module, options.force), modules()))
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
