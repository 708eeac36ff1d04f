"""The state file: whole, private, read back as written, refused with a remedy when it is not ours."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from wharf.cli.embedded.identity import Identity
from wharf.cli.embedded.plan import Health, Part
from wharf.cli.embedded.state import DIED, READY, StateError, SystemState, begun, decode, encode, load, save

PART = Part(
    name="brain",
    argv=("brain",),
    health=Health("https://h/readyz", Path("/ca"), Path("/cert"), Path("/key")),
    endpoint="https://h",
    version="v1",
    after=("nats",),
)
SYSTEM = SystemState(Identity(1, 2, "boot"), 3.5, "/kubeconfig").with_part(
    begun(PART, Identity(4, 5, "boot"), Path("/log"), 6.0)
)


def test_a_state_is_read_back_as_written() -> None:
    assert decode(encode(SYSTEM)) == SYSTEM
    plain = replace(SYSTEM.parts[0], name="nats", health=Health("http://h"), end="exit code 1", phase=DIED)
    assert decode(encode(SYSTEM.with_part(plain))) == SYSTEM.with_part(plain)


def test_a_part_takes_the_place_of_its_predecessor() -> None:
    ready = replace(SYSTEM.part("brain"), phase=READY)
    assert SYSTEM.with_part(ready).parts == (ready,)


def test_the_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(path, SYSTEM)
    with path.open() as old:
        save(path, replace(SYSTEM, kubeconfig="/other"))
        assert decode(old.read()) == SYSTEM
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == replace(SYSTEM, kubeconfig="/other")
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert load(tmp_path / "state.json") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 1, "supervisor": 7}', '{"format": 99}'])
def test_a_file_that_is_not_ours_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(StateError, match=r"state\.json is (damaged|of format 99).*remove the file"):
        load(path)
