"""Both etcdctl releases in use do their work on brain as they do it on etcd: every command group, plain, TLS and mutual
TLS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.store import Store
from proofs import servers
from proofs.ctl import RELEASES, Ctl, lines_until
from wharf.cli.kube.pki import Authority

Flags = tuple[str, ...]


@pytest.fixture(scope="module", params=("brain", "brain-mtls", "etcd-3.6"))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Flags]]:
    """A server and the flags a client needs; etcd is here to show that the tests ask for what etcdctl really gets."""
    folder = tmp_path_factory.mktemp("ctl")
    if request.param == "brain-mtls":
        store = Store(folder, name="brain", tls=True).start()
        flags = known_client(folder)
    else:
        store, flags = servers.start(request.param, folder), ()
    yield store, flags
    store.stop()


@pytest.fixture(params=RELEASES)
def ctl(server: tuple[Store, Flags], request: pytest.FixtureRequest) -> Iterator[Ctl]:
    store, flags = server
    ctl = Ctl(request.param, store.url, flags)
    yield ctl
    ctl("del", "", "--from-key")


def known_client(folder: Path) -> Flags:
    """Flags of a client whose certificate the server's authority has signed."""
    authority = Authority(folder / "pki")
    pair = authority.client("ctl", "etcdctl")
    return (f"--cacert={authority.cert}", f"--cert={pair.cert}", f"--key={pair.key}")


def fill(ctl: Ctl, *pairs: str) -> int:
    """Puts "key=value" pairs; the last revision."""
    revision = 0
    for pair in pairs:
        key, value = pair.split("=")
        revision = ctl.json("put", key, value)["header"]["revision"]
    return revision


def test_get_and_its_options(ctl: Ctl) -> None:
    revision = fill(ctl, "a=3", "ab=2", "b=1")
    fill(ctl, "a=9")
    assert ctl("get", "a") == "a\n9\n"
    assert ctl("get", "a", "--print-value-only") == "9\n"
    assert ctl("get", "a", "--prefix", "--keys-only").split() == ["a", "ab"]
    assert ctl("get", "ab", "--from-key", "--keys-only").split() == ["ab", "b"]
    assert ctl("get", "a", "b", "--keys-only").split() == ["a", "ab"]
    assert ctl("get", "a", f"--rev={revision}") == "a\n3\n"
    assert ctl("get", "", "--prefix", "--limit=1", "--order=DESCEND", "--sort-by=key").split() == ["b", "1"]
    assert ctl("get", "", "--prefix", "--sort-by=value", "--order=ASCEND", "--keys-only").split() == ["b", "ab", "a"]
    if ctl.release == "3.6":  # the flag came with 3.5
        assert '"Count" : 3' in ctl("get", "", "--prefix", "--count-only", "-w", "fields")
    assert ctl("get", "a", "--consistency=s") == "a\n9\n"


def test_output_formats_carry_the_metadata(ctl: Ctl) -> None:
    revision = fill(ctl, "k=v", "k=w")
    found = ctl.json("get", "k")["kvs"][0]
    assert (found["create_revision"], found["mod_revision"], found["version"]) == (revision - 1, revision, 2)
    fields = ctl("get", "k", "-w", "fields")
    assert f'"ModRevision" : {revision}' in fields
    assert '"ClusterID" : ' in fields
    assert "k" in ctl("get", "k", "-w", "protobuf")


def test_del(ctl: Ctl) -> None:
    fill(ctl, "a=1", "ab=2", "b=3")
    assert ctl("del", "a", "--prefix", "--prev-kv") == "2\na\n1\nab\n2\n"
    assert ctl("del", "a") == "0\n"


def test_put_options(ctl: Ctl) -> None:
    fill(ctl, "k=1")
    assert ctl("put", "k", "2", "--prev-kv") == "OK\nk\n1\n"
    assert ctl("put", "k", "--ignore-value") == "OK\n"
    assert "requested lease not found" in ctl.refused("put", "k", "v", "--lease=7b")
    assert ctl("put", "k", stdin="from stdin") == "OK\n"
    assert ctl("get", "k", "--print-value-only") == "from stdin\n"


def test_txn(ctl: Ctl) -> None:
    fill(ctl, "k=1")
    script = 'value("k") = "1"\n\nput k 2\nget k\n\nget k\n\n'
    assert ctl("txn", stdin=script).split() == ["SUCCESS", "OK", "k", "2"]
    assert ctl("txn", stdin=script).split() == ["FAILURE", "k", "2"]
    assert "SUCCESS" in ctl("txn", "--interactive", stdin='mod("none") = "0"\n\ndel k\n\n\n')
    assert "duplicate key" in ctl.run("txn", stdin="\nput k 1\nput k 2\n\n\n").stderr


def test_watch(ctl: Ctl) -> None:
    revision = fill(ctl, "w/1=a", "w/1=b")
    watch = ctl.start("watch", "w/", "--prefix", f"--rev={revision - 1}", "--prev-kv")
    try:
        lines_until(watch, ["PUT", "w/1", "a", "PUT", "w/1", "a", "w/1", "b"])
        ctl("del", "w/1")
        lines_until(watch, ["DELETE", "w/1", "b", "w/1"])
    finally:
        watch.kill()
        watch.communicate()


def test_interactive_watch_asks_for_progress(ctl: Ctl) -> None:
    fill(ctl, "p=1")
    watch = ctl.start("watch", "-i")
    assert watch.stdin is not None
    try:
        watch.stdin.write("watch p\n")
        watch.stdin.flush()
        fill(ctl, "other=1")  # the watch may or may not exist yet
        watch.stdin.write("progress\n")
        watch.stdin.flush()
        lines_until(watch, ["progress notify:"])
    finally:
        watch.kill()
        watch.communicate()


def test_watch_behind_a_compaction_says_so(ctl: Ctl) -> None:
    revision = fill(ctl, "c=1", "c=2", "c=3")
    assert ctl("compaction", str(revision)).strip() == f"compacted revision {revision}"
    assert "has been compacted" in ctl.refused("compaction", str(revision))
    assert "has been compacted" in ctl.refused("get", "c", f"--rev={revision - 1}")
    assert ctl("get", "c", f"--rev={revision}") == "c\n3\n"
    behind = ctl.run("watch", "c", f"--rev={revision - 1}")
    assert "watch was canceled (etcdserver: mvcc: required revision has been compacted)" in behind.stderr


def test_leases(ctl: Ctl) -> None:
    lease = ctl("lease", "grant", "60").split()[1]
    assert ctl("put", "leased", "v", f"--lease={lease}") == "OK\n"
    assert lease in ctl("lease", "list")
    assert "attached keys([leased])" in ctl("lease", "timetolive", lease, "--keys")
    assert f"lease {lease} keepalived with TTL(60)" in ctl("lease", "keep-alive", "--once", lease)
    assert f"lease {lease} revoked" in ctl("lease", "revoke", lease)
    assert ctl("get", "leased") == ""
    assert "already expired" in ctl("lease", "timetolive", lease)


def test_an_expired_lease_takes_its_keys(ctl: Ctl) -> None:
    watch = ctl.start("watch", "expiring")
    try:
        lease = ctl("lease", "grant", "1").split()[1]
        ctl("put", "expiring", "v", f"--lease={lease}")
        lines_until(watch, ["DELETE", "expiring"])
    finally:
        watch.kill()
        watch.communicate()


def test_endpoint_commands(ctl: Ctl) -> None:
    fill(ctl, "k=v")
    status = ctl.json("endpoint", "status")[0]["Status"]
    assert status["dbSize"] > 0
    assert status["leader"] == status["header"]["member_id"]
    health = ctl.run("endpoint", "health")  # 3.4 says it on stderr
    assert "is healthy: successfully committed proposal" in health.stdout + health.stderr
    first, second = (ctl.json("endpoint", "hashkv")[0]["HashKV"] for _ in range(2))
    assert first["hash"] == second["hash"] != 0
    fill(ctl, "k=w")
    assert ctl.json("endpoint", "hashkv")[0]["HashKV"]["hash"] != first["hash"]


def test_members_alarms_defragmentation_and_auth(ctl: Ctl) -> None:
    members = ctl.json("member", "list")["members"]
    assert len(members) == 1
    assert members[0]["clientURLs"]
    assert ctl("alarm", "list") == ""
    assert ctl("alarm", "disarm") == ""
    assert "Finished defragmenting etcd member" in ctl("defrag")
    if ctl.release == "3.6":  # the command came with 3.5
        assert "Authentication Status: false" in ctl("auth", "status")
    assert "user name not found" in ctl.refused("user", "get", "nobody")


def test_lock_and_elect(ctl: Ctl) -> None:
    holder = ctl.start("lock", "mutex")
    held = lines_until(holder, ["mutex/"])[-1]
    waiter = ctl.start("lock", "mutex")
    try:
        assert ctl("get", held, "--keys-only").strip() == held
        holder.terminate()  # releases the lock
        holder.communicate()
        assert lines_until(waiter, ["mutex/"])[-1] != held
    finally:
        for process in (holder, waiter):
            process.kill()
            process.communicate()
    assert ctl("lock", "command", "echo", "held").strip() == "held"
    leader = ctl.start("elect", "chair", "me")
    try:
        lines_until(leader, ["chair/", "me"])
        listener = ctl.start("elect", "-l", "chair")
        lines_until(listener, ["me"])
        listener.kill()
        listener.communicate()
    finally:
        leader.terminate()
        leader.communicate()


def test_make_mirror_copies_and_follows(ctl: Ctl, tmp_path: Path) -> None:
    other = Store(tmp_path, name="brain").start()
    copy = Ctl(ctl.release, other.url)
    fill(ctl, "m/1=a")
    mirror = ctl.start("make-mirror", "--prefix=m/", other.url)
    watch = copy.start("watch", "m/", "--prefix", "--rev=1")
    try:
        lines_until(watch, ["m/1", "a"])
        fill(ctl, "m/2=b")
        lines_until(watch, ["m/2", "b"])
    finally:
        for process in (mirror, watch):
            process.kill()
            process.communicate()
        other.stop()


def test_snapshot_save_writes_a_file(ctl: Ctl, tmp_path: Path) -> None:
    fill(ctl, "s=1")
    saved = tmp_path / "snapshot.db"
    done = ctl.run("snapshot", "save", str(saved))
    assert done.returncode == 0, done.stderr
    assert saved.stat().st_size > 0
    assert not saved.with_suffix(".db.part").exists()


@pytest.mark.parametrize("release", ["3.6", pytest.param("3.4", marks=pytest.mark.soak)])  # it takes a minute
def test_check_perf_passes_its_small_load(release: str, tmp_path: Path) -> None:
    """The verdict on throughput is the machine's; that all its writes succeed is the server's."""
    store = servers.start("brain", tmp_path)
    try:
        done = Ctl(release, store.url).run("check", "perf", "--load=s", seconds=240)
        assert "too many errors" not in (done.stdout + done.stderr)
        assert "Throughput" in done.stdout
    finally:
        store.stop()


@pytest.mark.parametrize("release", RELEASES)
def test_tls(release: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    pair = authority.server("server", ("127.0.0.1", "localhost"))
    store = Store(tmp_path, name="brain", flags=(f"--cert-file={pair.cert}", f"--key-file={pair.key}"))
    url = store.url.replace("http:", "https:")
    argv = [word.replace(store.url, url) for word in store.process.argv]
    store.process = type(store.process)("brain", argv, store.process.log)
    store.start()
    try:
        ctl = Ctl(release, url, (f"--cacert={authority.cert}",))
        assert ctl("put", "k", "v") == "OK\n"
        assert ctl("get", "k") == "k\nv\n"
        stranger = Authority(tmp_path / "other")
        assert Ctl(release, url, (f"--cacert={stranger.cert}", "--dial-timeout=2s")).refused("get", "k")
    finally:
        store.stop()


@pytest.mark.parametrize("release", RELEASES)
def test_mutual_tls_refuses_strangers(release: str, tmp_path: Path) -> None:
    store = Store(tmp_path, name="brain", tls=True).start()
    try:
        authority = Authority(tmp_path / "pki")
        assert Ctl(release, store.url, known_client(tmp_path))("put", "k", "v") == "OK\n"
        foreign = Authority(tmp_path / "foreign").client("ctl", "etcdctl")
        wrong = (f"--cacert={authority.cert}", f"--cert={foreign.cert}", f"--key={foreign.key}", "--dial-timeout=2s")
        assert Ctl(release, store.url, wrong).refused("get", "k")
        assert Ctl(release, store.url, (f"--cacert={authority.cert}", "--dial-timeout=2s")).refused("get", "k")
        assert "certificate" in store.process.output()
    finally:
        store.stop()
