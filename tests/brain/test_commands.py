"""What operators do with a store that is not the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from wharf.brain.api.pb import rpc
from wharf.brain.app import Brain, main
from wharf.brain.commands import COMMANDS
from wharf.brain.config import load_config
from wharf.brain.engine import open_engine
from wharf.brain.store.shapes import PutOp
from wharf.brain.store.store import Store


def fill(directory: Path) -> None:
    """A store with three keys."""

    async def write() -> None:
        engine = open_engine(f"lmdb://{directory}")
        store = Store(engine)
        await store.start()
        done = asyncio.Event()
        for key in (b"a", b"b", b"c"):
            store.submit(PutOp(key, b"v"), lambda _: done.set())
        await done.wait()
        await store.stop()
        engine.close()

    asyncio.run(write())


def during(directory: Path, work: Callable[[str], int]) -> int:
    """What `work` returns, run in a thread with the address of a brain on `directory`."""

    async def serve() -> int:
        flags = (f"--data-dir={directory}", "--listen-client-urls=http://127.0.0.1:0")
        brain = Brain(load_config(flags, {}).config)
        await brain.start()
        try:
            return await asyncio.to_thread(work, brain.addresses[0])
        finally:
            await brain.stop()

    return asyncio.run(serve())


def test_save_check_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, copy, restored = tmp_path / "data", tmp_path / "copy.db", tmp_path / "restored"
    fill(data)
    code = during(data, lambda address: main(["snapshot", "save", str(copy), f"--endpoint=http://{address}"], {}))
    assert code == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert main(["check", str(copy)], {}) == 0
    assert main(["restore", str(copy), f"--data-dir={restored}"], {}) == 0
    assert main(["check", str(restored)], {}) == 0
    said = capsys.readouterr().out.splitlines()
    assert "3 keys, revision 4" in said[1]
    assert said[1].rpartition("hash ")[2] == said[3].rpartition("hash ")[2]


def test_revisions_can_be_bumped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, copy, restored = tmp_path / "data", tmp_path / "copy.db", tmp_path / "restored"
    fill(data)
    during(data, lambda address: main(["snapshot", "save", str(copy), f"--endpoint=http://{address}"], {}))
    assert main(["restore", str(copy), f"--data-dir={restored}", "--bump-revision=1000"], {}) == 0
    assert "restored 3 keys at revision 1004" in capsys.readouterr().out


def test_a_copy_is_restored_into_any_empty_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, copy, restored = tmp_path / "data", tmp_path / "copy.db", tmp_path / "restored"
    fill(data)
    during(data, lambda address: main(["snapshot", "save", str(copy), f"--endpoint=http://{address}"], {}))
    words = ["restore", str(copy), f"--engine=lmdb://{restored}"]
    assert main(words, {}) == 0
    assert main(["check", str(restored)], {}) == 0
    assert main(["check", str(copy)], {}) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == f"lmdb://{restored}: restored 3 keys at revision 4"
    assert said[2].rpartition("hash ")[2] == said[3].rpartition("hash ")[2]
    assert main(words, {}) == 1
    assert "holds data (revision 4)" in capsys.readouterr().err
    bumped = [f"--engine=lmdb://{tmp_path / 'bumped'}", "--bump-revision=10"]
    assert main(["restore", str(copy), *bumped], {}) == 0
    assert during(tmp_path / "bumped", lambda _: 0) == 0


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        (["check", "/nowhere"], 1, "no snapshot at /nowhere"),
        (["restore", "/nowhere", "--data-dir=/nowhere/else"], 1, "no snapshot at /nowhere"),
        (["snapshot", "save", "x", "--endpoint=http://127.0.0.1:1", "--timeout=2s"], 1, "http://127.0.0.1:1"),
        (["check"], 2, "takes PATH"),
        (["import"], 2, "--from is needed"),
        (["import", "--from=http://127.0.0.1"], 2, "scheme://host:port"),
        (["import", "--from=http://a:1,https://a:2"], 2, "all endpoints must be http, or all https"),
        (["import", "--from=http://127.0.0.1:1"], 1, "is it running"),
        (["import", "--from=http://127.0.0.1:1", "--no-follow", "--cut-over"], 2, "--no-follow ends by itself"),
        (["import", "--from=http://127.0.0.1:1", "--cert=x"], 2, "--cert and --key must be given together"),
        (["export", "--from=http://127.0.0.1:1"], 2, "--to is needed"),
        (["export", "--from=http://127.0.0.1:1", "--to=http://127.0.0.1:1"], 1, "is it running"),
        (["restore", "x", "--datadir=y"], 2, "did you mean --data-dir?"),
        (["restore", __file__, "--data-dir=y"], 1, "is no snapshot of brain, or is damaged: give a file written by"),
        (
            ["import", "--from=http://127.0.0.1:1", "--user=root"],
            2,
            "--user and --password-file must be given together",
        ),
        (["snapshot", "save", "x", "--user=root"], 2, "--user and --password-file must be given together"),
        (["snapshot", "save", "x", "--cacert=nope.crt"], 2, "--cacert: 'nope.crt' cannot be read: No such file"),
        (["import", "--engine=mysql://db", "--from=http://127.0.0.1:1"], 2, "has an unknown scheme"),
        (["step-down", "--endpoint=http://127.0.0.1:1"], 1, "is it running"),
        (["snapshot", "save", "nowhere/x"], 1, "nowhere is not a directory; name a file in one"),
        (["snapshot", "save", "x", f"--cacert={__file__}"], 2, f"--cacert: {__file__}: "),
        (["snapshot", "restore", "x"], 2, "unknown command 'snapshot restore'; did you mean 'restore'?"),
        (["snapshot"], 2, "unknown command 'snapshot'; did you mean 'snapshot save'?"),
        (["backup", "--help"], 2, "unknown command 'backup' (`wharf brain help` lists the commands)"),
        (["exprot"], 2, "did you mean 'export'?"),
    ],
)
def test_mistakes_are_one_clear_line(
    argv: list[str],
    code: int,
    part: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv, {}) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wharf brain: ")
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_copy_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    fill(data)
    during(data, lambda address: main(["snapshot", "save", str(copy), f"--endpoint=http://{address}"], {}))
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) // 2])
    assert main(["check", str(copy)], {}) == 1
    assert str(copy) in capsys.readouterr().err


def test_an_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    assert main(["snapshot", "save", str(target)], {}) == 1
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "precious"


@pytest.mark.parametrize("argv", [["help"], ["snapshot", "--help"], ["snapshot", "-h"]])
def test_commands_are_listed_with_what_they_do(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv, {}) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"wharf brain {command} " in shown


def test_every_command_has_help_of_its_own_and_the_servers_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], {}) == 0
    server = capsys.readouterr().out
    for command in COMMANDS:
        assert command in " ".join(server.split())
        assert main([*command.split(), "--help"], {}) == 0
        assert capsys.readouterr().out.startswith(f"Usage: wharf brain {command} [flags]")


def test_step_down_at_a_client_port_names_the_control_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert during(tmp_path, lambda address: main(["step-down", f"--endpoint=http://{address}"], {})) == 1
    assert "this is not the control port of a node of several; give --endpoint" in capsys.readouterr().err


def test_snapshot_save_logs_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")

    def call(address: str, method: str, request: Message) -> None:
        with grpc.insecure_channel(address) as channel:
            unary = channel.unary_unary(f"/etcdserverpb.Auth/{method}", type(request).SerializeToString, bytes)
            unary(request, timeout=10)

    def work(address: str) -> int:
        call(address, "UserAdd", rpc.AuthUserAddRequest(name="root", password="secret"))
        call(address, "UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        call(address, "AuthEnable", rpc.AuthEnableRequest())
        save = ["snapshot", "save", str(tmp_path / "copy.db"), f"--endpoint=http://{address}"]
        assert main(save, {}) == 1
        assert "give --user and --password-file of a user with the root role" in capsys.readouterr().err
        return main([*save, "--user=root", f"--password-file={password}"], {})

    assert during(tmp_path / "data", work) == 0
    assert main(["check", str(tmp_path / "copy.db")], {}) == 0
