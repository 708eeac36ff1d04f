"""What members import is pinned, and setup installs every member."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]


def names(requirements: Path) -> set[str]:
    """Normalised names of the packages a requirements file lists."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)", requirements.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_members_dependencies_are_pinned(member: str) -> None:
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    wanted = {re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~\[;]", need)[0]).lower() for need in project["dependencies"]}
    own = {"wharf-wire", "wharf-common", "wharf-brain", "wharf-gateway", "wharf"}
    assert wanted - own <= names(ROOT / "requirements" / "runtime.in")


@pytest.mark.parametrize("member", MEMBERS)
def test_setup_installs_every_member(member: str) -> None:
    assert re.search(rf"for member in .*\b{member}\b", (ROOT / "scripts" / "setup.sh").read_text())


@pytest.mark.parametrize("name", ["uv", "go", "runtime", "dev"])
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    pinned = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert names(ROOT / "requirements" / f"{name}.in") <= names(ROOT / "requirements" / f"{name}.txt")
    assert "://" not in pinned
    blocks = re.split(r"\n(?=\S)", pinned.strip())
    assert all("--hash=sha256:" in block for block in blocks)


def test_apt_packages_are_grouped() -> None:
    lines = (ROOT / "scripts" / "apt-packages.txt").read_text().splitlines()
    assert all(re.fullmatch(r"(run|test|node)\s+[a-z0-9.+-]+|#.*", line) for line in lines)


DISTRIBUTION = {  # import name → package, where they differ
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "opentelemetry": "opentelemetry-proto",
    "yaml": "pyyaml",
    "nats": "nats-py",
    "wharf.wire": "wharf-wire",
    "wharf.common": "wharf-common",
    "wharf.brain": "wharf-brain",
    "wharf.gateway": "wharf-gateway",
    "wharf.cli": "wharf",
}


def imported(folder: Path) -> set[str]:
    """Packages outside the standard library that the modules of a folder import."""
    modules: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for module in modules:
        words = module.split(".")
        if words[0] in sys.stdlib_module_names:
            continue
        pair = ".".join(words[:2])
        found.add(DISTRIBUTION.get(pair) or DISTRIBUTION.get(words[0]) or words[0])
    return found


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_declares_what_it_imports(member: str) -> None:
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    assert imported(ROOT / member / "src") - {project["name"]} <= set(project["dependencies"])
