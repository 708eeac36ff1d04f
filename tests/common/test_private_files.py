"""Private files are private from their first moment, whatever the umask and whatever lay at their path."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from wharf.common.private_files import create_private, open_private


@pytest.fixture(autouse=True, params=[0, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_new_file_is_private(tmp_path: Path) -> None:
    with create_private(tmp_path / "new") as file:
        file.write(b"secret")
    assert mode(tmp_path / "new") == 0o600
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "new")


def test_replaced_file_is_not_the_one_that_others_have_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o666)
    with path.open("rb") as held:
        with create_private(path, replace=True) as file:
            file.write(b"secret")
        assert held.read() == b""
    assert mode(path) == 0o600
    assert path.read_bytes() == b"secret"


def test_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("keep")
    link.symlink_to(target)
    with create_private(link, replace=True) as file:
        file.write(b"secret")
    assert not link.is_symlink()
    assert target.read_text() == "keep"


def test_opener_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    path.chmod(0o600)
    with open(path, "a", opener=open_private) as file:
        file.write("two\n")
    assert path.read_text() == "one\ntwo\n"
