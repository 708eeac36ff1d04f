"""Storage that fails: a full disk, a quota, files that are damaged or another's, a directory that is taken."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from faults.kit import CALL_SECONDS, Client, address, brain, refusal
from harness.store import Store
from wharf.cli.kube.process import ProcessFailedError
from wharf.common.pb.etcd import rpc_pb2 as rpc

MIB = 1 << 20
ROOM = 12 * MIB
BALLAST = 6 * MIB
VALUE = b"v" * (64 << 10)
NO_SPACE = (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")


class Room(NamedTuple):
    """Where a store may live, and how its space is taken away and given back."""

    folder: Path
    shrink: Callable[[int], None]  # told the process
    free: Callable[[int], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Room]:
    """A file system with little room, some of it taken by a file that can go."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets us mount nothing")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BALLAST))
    try:
        yield Room(disk, lambda _: None, lambda _: ballast.unlink())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def small_files(tmp_path: Path) -> Room:
    """A limit on the size of files, which the kernel lets us move while the process runs."""

    def limit(size: int) -> Callable[[int], None]:
        return lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)) and None

    return Room(tmp_path / "files", limit(ROOM - BALLAST), limit(ROOM))


@pytest.fixture(params=["small_disk", "small_files"])
def room(request: pytest.FixtureRequest) -> Room:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Room)
    return found


def fill(client: Client) -> list[int]:
    """Put until refused for want of space; the revisions that were acknowledged."""
    written: list[int] = []
    while True:
        assert len(written) < 4 * ROOM // len(VALUE), "the store grows without end"
        try:
            written.append(client.put(b"fill/%04d" % len(written), VALUE))
        except grpc.RpcError as error:
            if refusal(error) != NO_SPACE:
                raise
            return written


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal(caught.value)


def test_a_full_disk_refuses_writes_and_nothing_else(room: Room) -> None:
    with brain(room.folder) as store, Client(address(store)) as client:
        room.shrink(store.process.pid)
        create = rpc.WatchCreateRequest(key=b"after", range_end=b"b")
        watch = client.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=10 * CALL_SECONDS)
        assert next(watch).created
        assert client.put(b"kept", b"whole") == 2
        written = fill(client)
        assert written == list(range(3, 3 + len(written)))
        assert len(written) > 10
        assert refused(lambda: client.put(b"fill/more", VALUE)) == NO_SPACE

        present = client.everything()
        assert present.count == len(written) + 1
        assert present.header.revision == written[-1]
        assert [event.kv.mod_revision for event in client.events(2, written[-1])] == [2, *written]
        with Client(address(store)) as other:
            kept = other.get(b"kept")
            assert kept is not None
            assert kept.value == b"whole"

        room.free(store.process.pid)
        after = client.put(b"after", VALUE)
        assert [event.kv.key for event in next(watch).events] == [b"after"]
        events = list(client.events(2, after))
        assert events[-1].kv.key == b"after"
        watch.cancel()
        everything = client.everything()
        assert store.process.stop() == 0
        store.start()
        with Client(address(store)) as again:
            assert again.everything().kvs == everything.kvs


def raised(client: Client) -> list[int]:
    answer = client.maintenance.Alarm(rpc.AlarmRequest(action=rpc.AlarmRequest.GET), timeout=CALL_SECONDS)
    return [one.alarm for one in answer.alarms]


def test_the_quota(tmp_path: Path) -> None:
    with brain(tmp_path, f"--quota-backend-bytes={ROOM}") as store, Client(address(store)) as client:
        written = fill(client)
        assert raised(client) == [rpc.NOSPACE]

        create = rpc.TxnRequest(
            compare=[rpc.Compare(key=b"new", target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"new", value=b"v"))],
        )
        for write in (lambda: client.put(b"k", b""), lambda: client.kv.Txn(create, timeout=CALL_SECONDS)):
            assert refused(write) == NO_SPACE
        assert refused(lambda: client.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=CALL_SECONDS)) == NO_SPACE

        everything = rpc.DeleteRangeRequest(key=b"fill/", range_end=b"fill0")
        gone = client.kv.DeleteRange(everything, timeout=CALL_SECONDS)
        assert gone.deleted == len(written)
        compaction = rpc.CompactionRequest(revision=gone.header.revision, physical=True)
        client.kv.Compact(compaction, timeout=CALL_SECONDS)
        client.maintenance.Defragment(rpc.DefragmentRequest(), timeout=CALL_SECONDS)
        assert client.maintenance.Status(rpc.StatusRequest(), timeout=CALL_SECONDS).dbSize < ROOM // 4
        assert refused(lambda: client.put(b"k", b"")) == NO_SPACE, "until the alarm is disarmed"

        assert store.process.stop() == 0
        store.start()
        with Client(address(store)) as again:
            assert refused(lambda: again.put(b"k", b"")) == NO_SPACE, "alarms outlive a restart"
            member = gone.header.member_id
            disarm = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, alarm=rpc.NOSPACE, memberID=member)
            again.maintenance.Alarm(disarm, timeout=CALL_SECONDS)
            assert again.put(b"k", VALUE) == gone.header.revision + 1
            assert raised(again) == []


def _zero_the_heads(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(8192))


def _cut(path: Path) -> None:
    os.truncate(path, 10 * 4096)  # the file is longer than what is used of it: half of it would lose nothing


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _scribble(path: Path) -> None:
    """What a disk may do to everything behind the two head pages."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))


def _foreign(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(20_000))


@pytest.mark.parametrize("damage", [_zero_the_heads, _cut, _empty, _scribble, _foreign])
def test_a_damaged_or_foreign_file_is_refused_and_kept(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with brain(tmp_path) as store:
        with Client(address(store)) as client:
            for number in range(40):
                client.put(b"%d" % number, b"v" * 4000)
        assert store.process.stop() == 0
        (file,) = (tmp_path / "data").glob("store-*.mdb")
        damage(file)
        before = file.read_bytes()
        with pytest.raises(ProcessFailedError, match=r"(?s)damaged or no store of brain.*wharf brain restore"):
            store.start()
        assert store.process.returncode == 1
        assert "Traceback" not in store.process.output()
        assert file.read_bytes() == before


def test_another_stores_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "member" / "snap").mkdir(parents=True)
    store = Store(tmp_path, name="brain")
    with pytest.raises(ProcessFailedError, match="is an etcd data directory"):
        store.start()
    assert store.process.returncode == 1


def test_a_directory_serves_one_process(tmp_path: Path) -> None:
    with brain(tmp_path) as first, Client(address(first)) as client:
        client.put(b"k", b"1")
        second = Store(tmp_path, name="brain")
        second.process.log = tmp_path / "second.log"
        with pytest.raises(ProcessFailedError, match=f"in use by another brain .process {first.process.pid}"):
            second.start()
        assert second.process.returncode == 1
        assert client.put(b"k", b"2") == 3, "the first is unharmed"
