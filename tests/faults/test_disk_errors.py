"""File operations that fail with EIO or ENOSPC, or write half: each operation of the LMDB engine in turn.

The table runs in processes that fail one operation after the other (`disk_rows`); the tests below it run a whole brain.
"""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
from faults.disk_control import EVER, HALF, Control, Kind, build_library
from faults.kit import Client, address, brain, refusal
from harness.store import Store

SHORT, LONG = 3, 60  # batches of a run
ROWS_SECONDS: Final = {SHORT: 120.0, LONG: 1800.0}  # for one table; a busy machine
END_SECONDS: Final = 60.0
STARTS_OVER: Final = 3  # exit code of a process that must be started again
SCENARIOS: Final = ("write", "compact", "defragment", "backup", "open", "create", "replica")
UNKNOWN_OUTCOME: Final = (
    grpc.StatusCode.UNAVAILABLE,
    "etcdserver: request timed out, possibly due to previous leader failure",
)
NOT_EXECUTED: Final = (grpc.StatusCode.UNAVAILABLE, "etcdserver: unhealthy cluster")
NO_SPACE: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


def run_rows(folder: Path, library: Path, scenario: str, error: int, waves: int) -> Sequence[dict[str, Any]]:
    """A row per operation of the scenario; every row's wrongs must be empty."""
    Control(folder / "control")
    words = [sys.executable, "-m", "faults.disk_rows", str(folder / "control"), str(folder), scenario, str(error)]
    search = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "DISK_FAULTS": str(folder / "control"),
        "PYTHONPATH": search,
    }
    ran = subprocess.run(
        [*words, str(waves)], env=environment, capture_output=True, text=True, timeout=ROWS_SECONDS[waves], check=False
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [row for row in rows if row["wrong"]] == []
    return rows


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, HALF], ids=["eio", "enospc", "half"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_failed_file_operation_loses_no_acknowledged_write(
    tmp_path: Path, library: Path, scenario: str, error: int
) -> None:
    """No request waits for ever, and a restart finds what was acknowledged and nothing that was refused."""
    rows = run_rows(tmp_path, library, scenario, error, SHORT)
    assert {row["on"] for row in rows if row["failed"]} == {False, True}
    assert not any(row["stopped"] or row["refused"] for row in rows if not row["failed"])
    failed = [row for row in rows if row["failed"]]
    if scenario == "write" and error == errno.EIO:
        assert all(row["stopped"] for row in failed)
    if scenario == "write" and error == errno.ENOSPC:
        stopped = [row["stopped"] for row in failed]
        assert any(stopped), "the meta page"
        assert not all(stopped), "other pages"


@pytest.mark.soak
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, HALF], ids=["eio", "enospc", "half"])
@pytest.mark.parametrize("scenario", ["write", "compact"])
def test_failed_file_operation_in_a_long_run(tmp_path: Path, library: Path, scenario: str, error: int) -> None:
    rows = run_rows(tmp_path, library, scenario, error, LONG)
    assert len(rows) > 3 * LONG


@contextmanager
def failing_brain(folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> Iterator[Store]:
    """A serving brain whose file operations `Control(folder / "control")` can make fail."""
    Control(folder / "control")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("DISK_FAULTS", str(folder / "control"))
    store = Store(folder, name="brain", flags=flags)
    monkeypatch.delenv("LD_PRELOAD")
    try:
        yield store.start()
    finally:
        store.kill()


def health(store: Store) -> int:
    """The status of /health; 503 also when the process has closed the port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{store.metrics_port}/health", timeout=END_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 503


def exit_code(store: Store) -> int | None:
    """The code of a process that ends by itself."""
    ended = os.pidfd_open(store.process.pid)
    try:
        assert select.select([ended], [], [], END_SECONDS)[0], store.process.tail()
    finally:
        os.close(ended)
    return store.process.returncode


class Fault(NamedTuple):
    kinds: Kind
    error: int
    answer: tuple[grpc.StatusCode, str]
    logged: str


FATAL: Final = {
    "meta-eio": Fault(Kind.META, errno.EIO, UNKNOWN_OUTCOME, "meta page could not be written (Input/output error)"),
    "meta-enospc": Fault(Kind.META, errno.ENOSPC, UNKNOWN_OUTCOME, "could not be written (No space left on device)"),
    "meta-half": Fault(Kind.META, HALF, UNKNOWN_OUTCOME, "meta page could not be written (Input/output error)"),
    "data-eio": Fault(Kind.DATA, errno.EIO, NOT_EXECUTED, "cannot be written (Input/output error)"),
    "sync-eio": Fault(Kind.SYNC, errno.EIO, NOT_EXECUTED, "cannot be written (Input/output error)"),
}


@pytest.mark.parametrize(
    ("name", "flags"), [*((name, ()) for name in FATAL), ("meta-eio", ("--workers=1",)), ("data-eio", ("--workers=1",))]
)
def test_io_error_ends_the_process_and_a_restart_recovers(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch, name: str, flags: tuple[str, ...]
) -> None:
    fault, control = FATAL[name], Control(tmp_path / "control")
    with failing_brain(tmp_path, library, monkeypatch, *flags) as store, Client(address(store)) as client:
        assert client.put(b"kept", b"1") == 2
        control.fail(tmp_path / "data", 1, EVER, fault.error, fault.kinds)
        with pytest.raises(grpc.RpcError) as caught:
            client.put(b"unsure", b"2")
        assert refusal(caught.value) == fault.answer
        assert health(store) == 503
        assert exit_code(store) == STARTS_OVER
        control.stop()
        log = store.process.output()
        assert fault.logged in log
        assert str(tmp_path / "data" / "store-1.mdb") in log
        assert "this process must start over" in log
        assert "Traceback" not in log
    with brain(tmp_path) as again, Client(address(again)) as client:
        kept = client.get(b"kept")
        assert kept is not None
        assert kept.value == b"1"
        unsure = client.get(b"unsure")
        if fault.answer is NOT_EXECUTED:
            assert unsure is None
        assert client.put(b"after", b"3") == (3 if unsure is None else 4)


def test_full_disk_outside_the_meta_page_refuses_the_write_and_goes_on(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control(tmp_path / "control")
    with failing_brain(tmp_path, library, monkeypatch) as store, Client(address(store)) as client:
        for kinds in (Kind.DATA, Kind.SYNC):
            control.fail(tmp_path / "data", 1, EVER, errno.ENOSPC, kinds)
            with pytest.raises(grpc.RpcError) as caught:
                client.put(b"k", b"v")
            assert refusal(caught.value) == NO_SPACE
            control.stop()
        assert health(store) == 200
        assert client.put(b"k", b"v") == 2
        assert store.process.stop() == 0
