"""The system's directory: private, ours alone, claimed by one run at a time."""

import os
import stat
from pathlib import Path

import pytest
from wharf.cli.embedded.layout import Layout, LayoutError, default_root, tail


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_private(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a" / "wharf")
    layout.make()
    layout.make()
    assert {mode(path) for path in (layout.root, *layout.root.iterdir())} == {0o700}
    handle = layout.claim()
    assert handle is not None
    os.close(handle)
    assert mode(layout.lock) == 0o600


def test_a_directory_of_ours_that_was_opened_is_closed_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    tmp_path.chmod(0o755)
    layout.make()
    assert mode(tmp_path) == 0o700


def test_other_people_s_files_are_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    before = mode(tmp_path)
    with pytest.raises(LayoutError, match=r"holds other files \(thesis\.tex\)"):
        Layout(tmp_path).make()
    assert mode(tmp_path) == before


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "wharf").touch()
    with pytest.raises(LayoutError, match="cannot be used"):
        Layout(tmp_path / "wharf").make()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    first = layout.claim()
    assert first is not None
    assert layout.claim() is None
    os.close(first)
    second = layout.claim()
    assert second is not None
    os.close(second)


def test_the_default_follows_the_desktop_s_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_root() == tmp_path / "wharf"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".local" / "share" / "wharf"


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    log = layout.fresh_log("brain")
    with log.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    assert layout.fresh_log("brain").exists()
    with log.open("ab") as file:
        file.write(b"x")
    assert not layout.fresh_log("brain").exists()
    assert (tmp_path / "logs" / "brain.log.1").exists()


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail(log, 2) == ["line 9998", "line 9999"]
    assert tail(tmp_path / "none", 2) == []
