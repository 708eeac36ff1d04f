"""Certificates between nodes while their files are being replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from wharf.brain.ha.peer_tls import PeerFiles, PeerTls
from wharf.cli.kube.pki import Authority, KeyPair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "peers")


def tls_of(authority: Authority, pair: KeyPair) -> PeerTls:
    return PeerTls(PeerFiles(pair.cert, pair.key, authority.cert))


def test_a_whole_set_is_taken_and_half_a_set_is_not(authority: Authority) -> None:
    pair, other = authority.server("a", ("a.test",)), authority.server("b", ("b.test",))
    tls = tls_of(authority, pair)
    before = tls._current()
    assert tls._changed() is None
    shutil.copyfile(other.cert, pair.cert)
    assert tls._current() is before
    assert tls._changed() is None
    shutil.copyfile(other.key, pair.key)
    assert tls._current().cert == other.cert.read_bytes()
    assert tls._changed() is not None
    assert tls._changed() is None, "once"


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
@pytest.mark.parametrize("content", [None, b"", b"not PEM"])
def test_files_that_cannot_be_used(authority: Authority, name: str, content: bytes | None) -> None:
    pair = authority.server("a", ("a.test",))
    files = PeerFiles(pair.cert, pair.key, authority.cert)
    tls = PeerTls(files)
    before = tls._current()
    path: Path = getattr(files, name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert tls._current() is before
    tls.channel()
    tls.server()
    with pytest.raises(ValueError, match=path.name) as refused:
        PeerTls(files)
    assert "PRIVATE" not in str(refused.value)
