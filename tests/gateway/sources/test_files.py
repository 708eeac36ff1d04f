"""Files of a directory source: a read ends and is bounded whatever the path leads to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway.api.documents import document, spec
from gateway.sources.test_directory import settled, write
from wharf.gateway.sources.directory import Folder
from wharf.gateway.sources.files import FileUnusable, read_file

MOST = 100


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


IRREGULAR: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "a socket": make_socket,
    "a character device": lambda path: path.symlink_to("/dev/zero"),
}


def test_regular_file_is_read_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * MOST)
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", MOST) == b"x" * MOST


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b" \n", "is empty"), (b"x" * 101, "is larger than")]
)
def test_empty_and_large_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileUnusable, match=words):
        read_file(tmp_path / "file", MOST)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match="does not exist"):
        read_file(tmp_path / "file", MOST)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", IRREGULAR)
def test_irregular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    IRREGULAR[kind](tmp_path / "file")
    with pytest.raises(FileUnusable, match=f"is {kind}, not a regular file"):
        read_file(tmp_path / "file", MOST)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", IRREGULAR)
def test_directory_source_goes_on_beside_irregular_files(tmp_path: Path, kind: str) -> None:
    """As a document and as a material: both are reported, and the other clusters are served."""
    IRREGULAR[kind](tmp_path / "b.yaml")
    IRREGULAR[kind](tmp_path / "ca.crt")
    write(tmp_path / "a.yaml", document(spec(upstream={"ca": {"file": "ca.crt"}}), "one"), document(spec(), "two"))
    folder = Folder(tmp_path)
    found = folder.look()
    assert found is not None
    assert [cluster.name for cluster in found.clusters] == ["two"]
    assert [one.problems for one in found.refused] == [
        (f"a.yaml: spec.upstream.ca: file ca.crt is {kind}, not a regular file",),
        (f"b.yaml: is {kind}, not a regular file",),
    ]
    write(tmp_path / "c.yaml", document(spec(), "three"))
    assert [cluster.name for cluster in settled(folder).clusters] == ["three", "two"]
