"""Both etcdctl releases work with users on brain as they do on etcd: by password, and by certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.store import Store
from proofs import servers
from proofs.ctl import RELEASES, Ctl, lines_until
from wharf.cli.kube.pki import Authority

DENIED = "permission denied"


@pytest.fixture(params=("brain", "etcd-3.6"))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = servers.start(request.param, tmp_path)
    yield store
    store.stop()


@pytest.fixture(params=RELEASES)
def ctl(server: Store, request: pytest.FixtureRequest) -> Ctl:
    return Ctl(request.param, server.url)


def as_user(ctl: Ctl, name: str, password: str) -> Ctl:
    return Ctl(ctl.release, ctl.url, (*ctl.flags, f"--user={name}:{password}"))


@contextmanager
def users(ctl: Ctl) -> Iterator[tuple[Ctl, Ctl]]:
    """root and a tenant who has mine/ and may see one key and write another, while authentication is enabled."""
    assert ctl("user", "add", "root:root-pw") == "User root created\n"
    assert ctl("user", "add", "tenant:tenant-pw") == "User tenant created\n"
    assert ctl("role", "add", "tenant") == "Role tenant created\n"
    for access, key, *flags in (
        ("readwrite", "mine/", "--prefix"),
        ("read", "seen"),
        ("write", "drop"),
        ("read", "tail", "--from-key"),
    ):
        assert ctl("role", "grant-permission", "tenant", access, key, *flags) == "Role tenant updated\n"
    assert ctl("user", "grant-role", "tenant", "tenant") == "Role tenant is granted to user tenant\n"
    assert ctl("put", "foreign", "secret") == "OK\n"
    assert ctl("auth", "enable") == "Authentication Enabled\n"
    yield as_user(ctl, "root", "root-pw"), as_user(ctl, "tenant", "tenant-pw")


def test_who_gives_no_name_or_a_wrong_password_is_refused(ctl: Ctl) -> None:
    with users(ctl) as (root, tenant):
        assert "user name is empty" in ctl.refused("get", "mine/a")
        assert "user name is empty" in ctl.refused("put", "mine/a", "1")
        assert "user name is empty" in ctl.refused("user", "list")
        for name, password in (("tenant", "wrong"), ("stranger", "pw")):
            refusal = as_user(ctl, name, password).refused("get", "mine/a")
            assert "authentication failed, invalid user ID or password" in refusal
        assert tenant("put", "mine/a", "1") == "OK\n"
        assert root("get", "foreign") == "foreign\nsecret\n"


def test_a_role_permits_its_keys_and_no_others(ctl: Ctl) -> None:
    with users(ctl) as (root, tenant):
        assert tenant("put", "mine/a", "1") == "OK\n"
        assert tenant("put", "drop", "x") == "OK\n"
        assert tenant("get", "mine/", "--prefix") == "mine/a\n1\n"
        assert tenant("get", "tail", "--from-key") == ""
        assert tenant("get", "seen") == ""
        assert tenant("txn", stdin='value("mine/a") = "1"\n\nput mine/b 2\nget seen\n\n\n').startswith("SUCCESS")
        assert tenant("del", "mine/", "--prefix", "--prev-kv") == "2\nmine/a\n1\nmine/b\n2\n"
        for words in (
            ("get", "foreign"),
            ("get", "drop"),
            ("get", "", "--from-key"),
            ("get", "mine", "--prefix"),
            ("put", "seen", "x"),
            ("put", "drop", "x", "--prev-kv"),
            ("del", "mine", "--prefix"),
            ("del", "drop", "--prev-kv"),
            ("defrag",),
            ("snapshot", "save", "nowhere"),
            ("user", "list"),
            ("user", "get", "root"),
            ("role", "get", "root"),
            ("role", "grant-permission", "tenant", "read", "foreign"),
            ("user", "grant-role", "tenant", "root"),
            ("auth", "disable"),
        ):
            assert DENIED in tenant.refused(*words), words
        assert DENIED in tenant.run("txn", stdin='value("foreign") = "1"\n\n\n\n').stderr
        assert DENIED in tenant.run("txn", stdin="\nput mine/a 1\n\nget foreign\n\n").stderr
        assert root("get", "mine/", "--prefix") == ""


def test_watches(ctl: Ctl) -> None:
    with users(ctl) as (root, tenant):
        assert DENIED in tenant.run("watch", "foreign").stderr
        assert DENIED in tenant.run("watch", "mine", "--prefix").stderr
        watch = tenant.start("watch", "mine/", "--prefix", "--rev=1")
        try:
            root("put", "mine/w", "1")
            lines_until(watch, ["PUT", "mine/w", "1"])
        finally:
            watch.kill()
            watch.communicate()


def test_leases(ctl: Ctl) -> None:
    with users(ctl) as (root, tenant):
        own, shared = (tenant("lease", "grant", "600").split()[1] for _ in range(2))
        assert tenant("put", "mine/l", "1", f"--lease={own}") == "OK\n"
        assert root("put", "foreign", "1", f"--lease={shared}") == "OK\n"
        assert "attached keys([mine/l])" in tenant("lease", "timetolive", own, "--keys")
        assert f"lease {own} keepalived" in tenant("lease", "keep-alive", "--once", own)
        assert DENIED in tenant.refused("put", "mine/m", "1", f"--lease={shared}")
        assert DENIED in tenant.refused("lease", "timetolive", shared, "--keys")
        assert DENIED in tenant.refused("lease", "revoke", shared)
        assert f"lease {own} revoked" in tenant("lease", "revoke", own)
        assert f"lease {shared} revoked" in root("lease", "revoke", shared)


def test_root_manages_users_and_the_server(ctl: Ctl, tmp_path: Path) -> None:
    with users(ctl) as (root, tenant):
        assert root("user", "list").split() == ["root", "tenant"]
        assert root("role", "list").split() == ["root", "tenant"]
        assert tenant("user", "get", "tenant") == root("user", "get", "tenant") == "User: tenant\nRoles: tenant\n"
        assert "[mine/, mine0) (prefix mine/)" in tenant("role", "get", "tenant")
        assert "drop" in root("role", "get", "tenant")
        if ctl.release == "3.6":  # the command came with 3.5
            assert "Authentication Status: true" in root("auth", "status")
        assert root.json("endpoint", "status")[0]["Status"]["dbSize"] > 0
        health = root.run("endpoint", "health")
        assert "is healthy" in health.stdout + health.stderr
        assert root.json("member", "list")["members"]
        assert "Finished defragmenting" in root("defrag")
        saved = tmp_path / "snapshot.db"
        root("snapshot", "save", str(saved))
        assert saved.stat().st_size > 0
        assert root("compaction", "2").strip() == "compacted revision 2"
        assert "role is not granted" in root.refused("user", "revoke-role", "tenant", "root")
        assert "user name already exists" in root.refused("user", "add", "tenant:x")
        assert "role name already exists" in root.refused("role", "add", "tenant")
        assert "invalid auth management" in root.refused("user", "delete", "root")


def test_changes_count_at_once(ctl: Ctl) -> None:
    with users(ctl) as (root, tenant):
        assert "is revoked" in root("role", "revoke-permission", "tenant", "seen")
        assert DENIED in tenant.refused("get", "seen")
        assert root("role", "grant-permission", "tenant", "read", "foreign") == "Role tenant updated\n"
        assert tenant("get", "foreign") == "foreign\nsecret\n"
        assert root("user", "passwd", "tenant", "--interactive=false", stdin="new-pw") == "Password updated\n"
        assert "authentication failed" in tenant.refused("get", "foreign")
        renewed = as_user(ctl, "tenant", "new-pw")
        assert renewed("get", "foreign") == "foreign\nsecret\n"
        assert root("role", "delete", "tenant") == "Role tenant deleted\n"
        assert DENIED in renewed.refused("get", "foreign")
        assert root("user", "delete", "tenant") == "User tenant deleted\n"
        assert "authentication failed" in renewed.refused("get", "foreign")
        assert root("auth", "disable") == "Authentication Disabled\n"
        assert ctl("get", "foreign") == "foreign\nsecret\n"
        assert root("get", "foreign") == "foreign\nsecret\n"  # a name that nobody asks for does no harm


@pytest.mark.parametrize("name", ["brain", "etcd"])
@pytest.mark.parametrize("release", RELEASES)
def test_a_certificate_names_its_user(release: str, name: str, tmp_path: Path) -> None:
    store = Store(tmp_path, name=name, tls=True).start()
    try:
        authority = Authority(tmp_path / "pki")

        def holder(common_name: str) -> Ctl:
            pair = authority.client(common_name, common_name)
            flags = (f"--cacert={authority.cert}", f"--cert={pair.cert}", f"--key={pair.key}")
            return Ctl(release, store.url, flags)

        root, tenant, stranger = holder("root"), holder("tenant"), holder("stranger")
        root("user", "add", "root", "--no-password")
        root("user", "add", "tenant", "--no-password")
        root("role", "add", "tenant")
        root("role", "grant-permission", "tenant", "readwrite", "mine/", "--prefix")
        root("user", "grant-role", "tenant", "tenant")
        root("auth", "enable")
        assert tenant("put", "mine/a", "1") == "OK\n"
        assert DENIED in tenant.refused("put", "foreign", "1")
        assert DENIED in stranger.refused("get", "mine/a")
        assert root("get", "mine/a") == "mine/a\n1\n"
        assert "password was given for no password user" in as_user(stranger, "tenant", "x").refused("get", "mine/a")
        root("user", "add", "other:other-pw")
        root("user", "grant-role", "other", "tenant")
        assert as_user(stranger, "other", "other-pw")("get", "mine/a") == "mine/a\n1\n"  # a token beats a certificate
    finally:
        store.stop()


def test_users_outlive_a_restart_and_tokens_too(tmp_path: Path) -> None:
    store = servers.start("brain", tmp_path)
    try:
        with users(Ctl("3.6", store.url)) as (root, tenant):
            watch = tenant.start("watch", "mine/", "--prefix")
            try:
                store.stop()
                store.start()
                assert root("put", "mine/w", "1") == "OK\n"
                assert DENIED in tenant.refused("get", "foreign")
                assert "user name is empty" in Ctl("3.6", store.url).refused("get", "foreign")
            finally:
                watch.kill()
                watch.communicate()
            assert "root-pw" not in store.process.output()
            assert "tenant-pw" not in store.process.output()
    finally:
        store.stop()
