"""And back again: `wharf brain export` writes a running store into an etcd."""

from __future__ import annotations

import signal
from pathlib import Path

from harness.store import Store
from proofs.conftest import Starter
from proofs.model.client import Client
from proofs.moving import Command, Writers, client, command, everything, fill, import_words, leases
from wharf.common.pb.etcd import rpc_pb2


def content(one: Client, prefix: bytes = b"") -> list[tuple[bytes, bytes, int]]:
    return [(kv.key, kv.value, kv.lease) for kv in everything(one)[1] if kv.key.startswith(prefix)]


def export_words(source: Store, target: Store, *words: str) -> tuple[str, ...]:
    return ("export", f"--from={source.url}", f"--to={target.url}", *words)


def test_export_under_load_and_cut_over(target: str, begin: Starter) -> None:
    store, other = begin("brain", "source"), begin(target, "target")
    with client(store.url) as source, client(other.url) as there:
        fill(source)
        with Writers(store.url) as writers, Command(*export_words(store, other)) as running:
            running.wait_line("caught up at revision")
            writers.wait_more(200)
            writers.__exit__()
            code, printed = running.end(signal.SIGINT)
        assert code == 0, printed
        assert content(there) == content(source)
        theirs, ours = leases(source), leases(there)
        assert {lease: (granted, keys) for lease, (granted, _, keys) in ours.items()} == {
            lease: (granted, keys) for lease, (granted, _, keys) in theirs.items()
        }
        assert all(ours[lease][1] >= remaining for lease, (_, remaining, _) in theirs.items())


def test_there_and_back(tmp_path: Path, begin: Starter) -> None:
    """What came from an etcd can go back to one: leaving is as easy as coming."""
    store, other = begin("etcd-3.6", "source"), begin("etcd-3.4", "target")
    with client(store.url) as source, client(other.url) as there:
        fill(source, 300)
        code, printed = command(*import_words(store.url, tmp_path / "brain" / "data", "--no-follow"))
        assert code == 0, printed
        code, printed = command(*export_words(begin("brain", "brain"), other, "--no-follow"))
        assert code == 0, printed
        assert content(there) == content(source)


def test_a_prefix(begin: Starter) -> None:
    store, other = begin("brain", "source"), begin("etcd-3.6", "target")
    with client(store.url) as source, client(other.url) as there:
        fill(source, 100)
        there.unary["put"](rpc_pb2.PutRequest(key=b"other", value=b"stays"))
        code, printed = command(*export_words(store, other, "--no-follow", "--prefix=leased"))
        assert code == 0, printed
        assert content(there) == [*content(source, b"leased"), (b"other", b"stays", 0)]
        assert set(leases(there)) == {11, -13}


def test_what_the_target_holds_goes_only_by_force(begin: Starter) -> None:
    store, other = begin("brain", "source"), begin("etcd-3.6", "target")
    with client(store.url) as source, client(other.url) as there:
        fill(source, 100)
        there.unary["put"](rpc_pb2.PutRequest(key=b"precious"))
        code, printed = command(*export_words(store, other, "--no-follow"))
        assert (code, "the target holds keys already (1); choose an empty one, or --force" in printed) == (1, True)
        assert content(there) == [(b"precious", b"", 0)]
        for _ in range(2):
            code, printed = command(*export_words(store, other, "--no-follow", "--force"))
            assert code == 0, printed
            assert content(there) == content(source)


def test_onto_itself(begin: Starter) -> None:
    store = begin("brain", "source")
    code, printed = command(*export_words(store, store, "--force"))
    assert (code, "the same cluster" in printed) == (1, True)
